package provision

import (
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
	// Changes on the hosts, in the API and in etcd.
	Changes []Change
	// Unasked says why the API was not asked, or did not answer: objects, nodes and members are not known then.
	Unasked string
	// Proofs that are wanted beside.
	Proofs []Proof
	// Roll is what the proof RollWorkloads would do; nil where it is not wanted.
	Roll *Roll
	// MaxUnavailable is how many nodes of a pool of workers may be disturbed at a time; 0 is one.
	MaxUnavailable map[string]int
}

// Only leaves the changes of some hosts, and gives those that are left out, as far as the others were observed. It is an
// error where the schedule could not hold then: a cluster that comes up for the first time needs all its control planes,
// and one that is down most of them.
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
	if s.Alive {
		return some, leftOut, nil
	}
	var named int // control planes
	var missing []string
	for _, m := range s.Machines {
		switch {
		case m.Role != spec.ControlPlane:
		case slices.Contains(hosts, m.Name):
			named++
		default:
			missing = append(missing, m.Name)
		}
	}
	switch {
	case len(missing) > 0 && !s.Initialized:
		return s, nil, fmt.Errorf("--only leaves out %s, but the cluster is not up, and its control planes come up together: name all of them", strings.Join(missing, ", "))
	case len(missing) >= named:
		return s, nil, fmt.Errorf("--only leaves out %s, but the cluster is down, and etcd comes up only with most of its members: name more control planes", strings.Join(missing, ", "))
	}
	return some, leftOut, nil
}

// selected says whether a host, or "" for the cluster as a whole, is not left out.
func (s Situation) selected(host string) bool {
	return len(s.Selected) == 0 || slices.Contains(s.Selected, host)
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
// cannot be reached: only what is restricted to others (Only) can be carried out then. It fails where a host could not be
// read and where going on would do harm; it changes nothing but r.
func (r *Runner) Situation(ctx context.Context, hosts map[string]host.Host) (Situation, error) {
	r.Hosts, r.Objects = hosts, nil
	asked, err := Asked(r.Input)
	if err != nil {
		return Situation{}, err
	}
	var waits func(host, what string)
	if r.Changing {
		waits = r.report
	}
	if r.Observed, err = Observe(ctx, hosts, asked, waits); err != nil {
		return Situation{}, err
	}
	r.Input.Facts = map[string]Facts{}
	for name, h := range r.Observed.Hosts {
		r.Input.Facts[name] = h.Facts
	}
	if err := Refuse(r.Input, r.Before, r.Observed); err != nil {
		return Situation{}, err
	}
	if r.Desired, err = Desired(r.Input); err != nil {
		return Situation{}, err
	}
	s := Situation{
		Machines: r.Input.Machines, Initialized: initialized(r.Observed), Unobserved: unobserved(r.Input.Machines, r.Observed),
		MaxUnavailable: r.Input.Cluster.MaxUnavailable(), Unasked: "no API server runs",
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
	if err := RefuseMembers(r.Desired, r.Observed); err != nil {
		return Situation{}, err
	}
	signs := Signs{API: s.Unasked == "", Ended: r.endedMembers(ctx, r.Observed), Gone: r.Input.Gone}
	s.Alive = Alive(r.Input.Machines, r.Observed, signs)
	s.Down = notReady(r.Desired, r.Observed)
	s.Changes = Diff(r.Desired, r.Observed)
	if err := RefuseClocks(r.Observed, r.brought(s.Changes)); err != nil {
		return Situation{}, err
	}
	r.warnOfClocks()
	if s.Proofs, err = r.Prove.proofs(r.Input, s.Changes); err != nil {
		return Situation{}, err
	}
	s.Roll = r.roll(ctx, s)
	for _, o := range r.Objects {
		s.Changes = append(s.Changes, objectChange(o))
	}
	if len(s.Changes) > 0 {
		Explain(s.Changes, r.Causes())
	}
	return s, nil
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
	var objectsErr, nodesErr error
	var questions sync.WaitGroup
	questions.Go(func() { r.Objects, objectsErr = r.API.Diff(ctx, text) })
	questions.Go(func() { r.Observed.Nodes, nodesErr = r.API.Nodes(ctx) })
	questions.Go(func() { r.Observed.Members = members(ctx, r.Input, r.Hosts) })
	questions.Wait()
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
