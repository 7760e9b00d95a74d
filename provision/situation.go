package provision

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
)

// Situation is what has to be done, and all that a schedule depends on.
type Situation struct {
	// Machines in the order of the spec.
	Machines []spec.Machine
	// Alive says that the cluster has been up and has its quorum: control planes are touched one at a time.
	// Initialized says that it has been up: pods may run on its workers, whatever became of its control planes.
	Alive, Initialized bool
	// Selected are the hosts that it is restricted to (--only); empty is all of them, and what is the cluster's.
	// Unobserved could not be reached, and are not among them.
	Selected, Unobserved []string
	// Down are the nodes that the API knows not to be Ready, or does not know; nil where it was not asked.
	Down map[string]bool
	// Held are hosts that are left alone, with the reasons: they cannot be reached, or must not be touched. No change and no
	// step is theirs.
	Held map[string][]string
	// Unrecorded says that the state does not know yet that the cluster is up.
	Unrecorded bool
	// Changes on the hosts, in the API and in etcd.
	Changes []Change
	// Unasked says why the API was not asked, or did not answer: objects, nodes and members are not known then.
	Unasked string
	// Proofs that are wanted beside.
	Proofs []Proof
	// Roll is what the proof RollWorkloads would do; nil where it is not wanted.
	Roll *Roll
	// PluginWas is the network plugin of a cluster that has been up, where its spec names another one now; else empty.
	PluginWas string
	// MaxUnavailable is how many nodes of a pool of workers may be disturbed at a time; 0 is one.
	MaxUnavailable map[string]int
}

// Only leaves the changes of some hosts, and gives those that are left out, as far as the others were observed.
func (s Situation) Only(hosts []string) (some Situation, leftOut []Change, err error) {
	some = s
	some.Changes, some.Selected = nil, hosts
	for _, name := range hosts {
		if !slices.ContainsFunc(s.Machines, func(m spec.Machine) bool { return m.Name == name }) {
			return s, nil, fmt.Errorf("--only %s: the cluster has no such node; it has %s", name, strings.Join(names(s.Machines, machineName), ", "))
		}
	}
	for _, c := range s.Changes {
		if slices.Contains(hosts, c.Host) {
			some.Changes = append(some.Changes, c)
		} else if !slices.Contains(s.Unobserved, c.Host) {
			leftOut = append(leftOut, c)
		}
	}
	return some, leftOut, nil
}

// hold leaves hosts alone.
func (s *Situation) hold(held map[string][]string) {
	for host, reasons := range held {
		if s.Held == nil {
			s.Held = map[string][]string{}
		}
		s.Held[host] = append(s.Held[host], reasons...)
	}
	s.Changes = slices.DeleteFunc(s.Changes, func(c Change) bool { return len(s.Held[c.Host]) > 0 })
}

// Enough is an error where the schedule could not hold, since control planes are left out or held: a cluster that comes up
// for the first time needs all of them, and one that is down most of them.
func (s Situation) Enough() error {
	if s.Alive {
		return nil
	}
	var named int // control planes
	var missing []string
	for _, m := range s.Machines {
		switch {
		case m.Role != spec.ControlPlane:
		case s.selected(m.Name):
			named++
		default:
			missing = append(missing, m.Name)
		}
	}
	if len(missing) == 0 || s.Initialized && len(missing) < named {
		return nil
	}
	reasons := []string{"the cluster is not up, its control planes come up together for the first time, and this leaves out " + strings.Join(missing, ", ")}
	if s.Initialized {
		reasons[0] = "the cluster is down, etcd comes up only with most of its members, and this leaves out " + strings.Join(missing, ", ")
	}
	for _, name := range missing {
		if held := s.Held[name]; len(held) > 0 {
			reasons = append(reasons, name+": "+strings.Join(held, "; "))
		}
	}
	return refusal(hostsUnchanged, reasons)
}

// selected says whether a host, or "" for the cluster as a whole, is neither left out nor held.
func (s Situation) selected(host string) bool {
	return len(s.Held[host]) == 0 && (len(s.Selected) == 0 || slices.Contains(s.Selected, host))
}

// HeldError names the hosts that a run has left alone.
type HeldError struct {
	// Held are the reasons by host; Causes are the errors behind some of them.
	Held   map[string][]string
	Causes []error
}

func (e *HeldError) Unwrap() []error { return e.Causes }

func (e *HeldError) Error() string {
	var lines []string
	for _, host := range slices.Sorted(maps.Keys(e.Held)) {
		lines = append(lines, host+": "+strings.Join(e.Held[host], "; "))
	}
	return "left alone, and not as the spec asks:\n  " + strings.Join(lines, "\n  ")
}

// idle are the nodes on which nothing can be disturbed that still works: those that are not Ready, and, where the cluster does
// not live and could not be asked, those whose certificates are renewed: these have expired, or it has been down for long.
func (s Situation) idle() map[string]bool {
	idle := map[string]bool{}
	maps.Copy(idle, s.Down)
	for _, c := range s.Changes {
		if s.Unasked != "" && !s.Alive && isServed(c) {
			idle[c.Host] = true
		}
	}
	return idle
}

func unobserved(machines []spec.Machine, observed State) []string {
	var all []string
	for _, m := range machines {
		if _, ok := observed.Hosts[m.Name]; !ok {
			all = append(all, m.Name)
		}
	}
	return all
}

func machineName(m spec.Machine) string { return m.Name }

func names[T any](of []T, name func(T) string) []string {
	var all []string
	for _, one := range of {
		all = append(all, name(one))
	}
	return all
}

// Situation observes the hosts, one session each, then asks the API and etcd what they know. hosts may lack machines that
// cannot be reached: these are held, or left out (Only). It fails where a host could not be read and where going on would
// do harm; it changes nothing but r.
func (r *Runner) Situation(ctx context.Context, hosts map[string]host.Host) (Situation, error) {
	r.Hosts, r.Objects = hosts, nil
	unread, err := r.observeHosts(ctx)
	if err != nil {
		return Situation{}, err
	}
	hosts = r.Hosts
	refusals := Refuse(r.Input, r.Before, r.Observed)
	if err := refusal(hostsUnchanged, refusals.Cluster); err != nil {
		return Situation{}, err
	}
	if r.Desired, err = Desired(r.Input); err != nil {
		return Situation{}, err
	}
	s := Situation{
		Machines: r.Input.Machines, Initialized: beenUp(r.Input, r.Observed), Unobserved: unobserved(r.Input.Machines, r.Observed),
		Unrecorded:     r.Before.Up == nil || r.Input.RebuildEmpty,
		MaxUnavailable: r.Input.Cluster.MaxUnavailable(), Unasked: "no API server runs", PluginWas: r.Before.Up.pluginBefore(r.Input.Cluster),
	}
	if r.API, err = apiClient(r.Input, hosts); err != nil {
		return Situation{}, err
	}
	if serves(r.Observed) {
		if s.Unasked, err = r.observeCluster(ctx); err != nil {
			return Situation{}, err
		}
	} else if s.Initialized {
		r.Observed.Members = members(ctx, r.Input, hosts) // etcd may work without any API server
	}
	refusals.members(r.Desired, r.Observed)
	if err := refusal(hostsUnchanged, refusals.Cluster); err != nil {
		return Situation{}, err
	}
	signs := Signs{API: s.Unasked == "", Ended: r.endedMembers(ctx, r.Observed), Gone: r.Input.Gone, BeenUp: r.Input.BeenUp}
	s.Alive = Alive(r.Input.Machines, r.Observed, signs)
	s.Down = notReady(r.Desired, r.Observed)
	s.Changes = Diff(r.Desired, r.Observed)
	s.hold(r.Held)
	s.hold(unread)
	s.hold(refusals.Hosts)
	if err := RefuseClocks(r.Observed, r.brought(s.Changes)); err != nil {
		return Situation{}, err
	}
	r.warnOfClocks()
	r.warnOfDisks()
	s.Proofs = r.Prove.proofs(r.Input, s.Changes)
	s.Roll = r.roll(ctx, s)
	for _, o := range r.Objects {
		s.Changes = append(s.Changes, objectChange(o))
	}
	if len(s.Changes) > 0 {
		Explain(s.Changes, r.Causes())
	}
	return s, nil
}

// observeHosts observes the hosts, and takes from what they are the facts that desired state is computed from. It gives
// those that could not be read, with the reasons.
func (r *Runner) observeHosts(ctx context.Context) (unread map[string][]string, err error) {
	asked, err := Asked(r.Input)
	if err != nil {
		return nil, err
	}
	var waits func(host, what string)
	if r.Changing {
		waits = r.report
	}
	r.Observed, err = Observe(ctx, r.Hosts, asked, waits, r.ObserveLimit)
	if unread, err = r.withoutUnread(ctx, err); err != nil {
		return nil, err
	}
	if r.Input.adopt(r.Observed) {
		r.Before.Up, r.Before.Applied = nil, nil // what the state knows is of before
	}
	forget(r.Input, r.Observed)
	r.Input.Facts = map[string]Facts{}
	for name, h := range r.Observed.Hosts {
		r.Input.Facts[name] = h.Facts
	}
	return unread, nil
}

// checkUID refuses a cluster whose API says that it is another.
func checkUID(in Input, api string) error {
	if api == "" || api == in.UID {
		return nil
	}
	return refusal(hostsUnchanged, []string{fmt.Sprintf("the cluster's API says (ConfigMap kube-system/slipway-cluster) that it is the cluster with the UID %s, and the "+
		"state is of %s. If it is, its state is elsewhere: set SLIPWAY_STATE_DIR or spec.state to where that is. If it is not, somebody has put another cluster's "+
		"objects there, as from a backup: `kubectl -n kube-system delete configmap slipway-cluster`, and the next apply writes it again", api, in.UID)})
}

// adopt takes the generation that most control planes have data of, where the state is from before there was any: it was
// restored from a backup, and its keys are still the cluster's. One that the state knows only as begun has to have been up.
func (in *Input) adopt(observed State) (adopted bool) {
	if in.Generation != "" || in.RebuildEmpty {
		return false
	}
	with, beenUp := map[string]int{}, map[string]bool{}
	for _, m := range in.controlPlanes() {
		if f := observed.Hosts[m.Name].Facts; f.EtcdData && !strange(*in, f) {
			with[f.Generation]++
			beenUp[f.Generation] = beenUp[f.Generation] || f.Initialized
		}
	}
	for generation, n := range with {
		if generation != "" && n > len(in.controlPlanes())/2 && (generation != in.Rebuilding || beenUp[generation]) {
			in.Generation = generation
			return true
		}
	}
	return false
}

// forget passes over what hosts have recorded of a cluster that was up in another generation.
func forget(in Input, observed State) {
	for name, h := range observed.Hosts {
		if otherGeneration(in, h.Facts) {
			h.Facts.Initialized = false
			delete(h.Files, initializedFile)
			observed.Hosts[name] = h
		}
	}
}

// serves says whether an API server runs anywhere.
func serves(observed State) bool {
	for _, h := range observed.Hosts {
		if h.Units["kube-apiserver.service"].Active {
			return true
		}
	}
	return false
}

// observeCluster asks the API and etcd, side by side. That the API does not answer is not an error but an answer.
func (r *Runner) observeCluster(ctx context.Context) (unasked string, err error) {
	text, err := Manifests(r.Input)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	var objectsErr, nodesErr, uidErr error
	var uid string
	var loaded map[string]string
	var questions sync.WaitGroup
	questions.Go(func() { r.Objects, objectsErr = r.API.Diff(ctx, text) })
	questions.Go(func() { r.Observed.Nodes, nodesErr = r.API.Nodes(ctx) })
	questions.Go(func() { r.Observed.Members = members(ctx, r.Input, r.Hosts) })
	questions.Go(func() { uid, uidErr = r.API.ClusterUID(ctx) })
	questions.Go(func() { loaded = r.observeAuthentication(ctx) })
	questions.Wait()
	for name, hash := range loaded {
		h := r.Observed.Hosts[name]
		h.Authentication = hash
		r.Observed.Hosts[name] = h
	}
	if nodesErr = cmp.Or(nodesErr, uidErr); nodesErr == nil {
		if err := checkUID(r.Input, uid); err != nil {
			return "", err
		}
	}
	if nodesErr != nil {
		r.Objects, r.Observed.Nodes = nil, nil
		return nodesErr.Error(), nil
	}
	if objectsErr != nil { // the API answers; it is about these objects
		r.Objects = append(r.Objects, kube.Change{Object: "manifests", Err: objectsErr})
	}
	return "", nil
}

func objectChange(o kube.Change) Change {
	c := Change{Kind: ObjectChange, Name: o.Object, Action: Update, Cause: Drift, From: shown(o.Live), To: shown(o.Wanted)}
	switch {
	case o.Err != nil:
		c.Cause, c.Reason = Wanted, "could not all be compared: "+o.Err.Error()
	case o.Missing:
		c.Action, c.Reason = Create, "is missing"
	case o.By != "":
		c.Reason = "changed by " + o.By + at(o.At)
	default:
		c.Reason = "differs"
	}
	return c
}

// shown is the digest of an object's text, empty for none.
func shown(text string) string {
	if text == "" {
		return ""
	}
	return digest([]byte(text))
}
