package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Situation is the work to do, and everything that a schedule depends on.
type Situation struct {
	// Machines in the order of the spec.
	Machines []spec.Machine
	// Alive means that the cluster has been up and has its quorum: control planes are changed one
	// at a time. Initialized means that it has been up: pods may run on its workers, whatever the
	// state of its control planes.
	Alive, Initialized bool
	// Selected are the hosts that the run is restricted to (--only); empty is all of them, and the
	// cluster as a whole. Unobserved hosts could not be reached, and are not among them.
	Selected, Unobserved []string
	// Down are the nodes that are not Ready or unknown according to the API; nil if it was not
	// queried.
	Down map[string]bool
	// Held are hosts that this run must not change, with the reasons: they cannot be reached, or a
	// check refused them. They have no changes and no steps.
	Held map[string][]string
	// Unrecorded means that the state does not record yet that the cluster is up.
	Unrecorded bool
	// Changes on the hosts, in the API and in etcd.
	Changes []Change
	// APIError says why the API was not queried or did not answer: then objects, nodes and members are unknown.
	APIError string
	// Proofs that are wanted besides.
	Proofs []Proof
	// Roll is the work of the proof RollWorkloads; nil if it is not wanted.
	Roll *Roll
	// PluginWas is the network plugin of a cluster that has been up, if its spec names another one
	// now; else empty.
	PluginWas string
	// MaxUnavailable is how many nodes of a pool of workers may be disturbed at a time; 0 is one.
	MaxUnavailable map[string]int
}

// CheckOnly refuses nodes (--only) that a cluster with these nodes does not have.
func CheckOnly(only, nodes []string) error {
	const shown = 12
	for _, name := range only {
		if slices.Contains(nodes, name) {
			continue
		}
		have := strings.Join(nodes[:min(shown, len(nodes))], ", ")
		if len(nodes) > shown {
			have = fmt.Sprintf("%d nodes: %s, ...", len(nodes), have)
		}
		return fmt.Errorf("--only %s: the cluster has no such node; it has %s", name, have)
	}
	return nil
}

// Only keeps the changes of some hosts, and returns the changes that are left out, as far as the
// others were observed.
func (s Situation) Only(hosts []string) (some Situation, leftOut []Change, err error) {
	some = s
	some.Changes, some.Selected = nil, hosts
	if err := CheckOnly(hosts, names(s.Machines, machineName)); err != nil {
		return s, nil, err
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

// Hold holds hosts.
func (s *Situation) Hold(held map[string][]string) {
	for host, reasons := range held {
		if s.Held == nil {
			s.Held = map[string][]string{}
		}
		s.Held[host] = append(s.Held[host], reasons...)
	}
	s.Changes = slices.DeleteFunc(s.Changes, func(c Change) bool { return len(s.Held[c.Host]) > 0 })
}

// Enough returns an error if too many control planes are left out or held for the schedule: a
// cluster that starts for the first time needs all of them, and one that is down needs a majority.
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
	reasons := []string{"the cluster is not up, its control planes must start together for the first time, and this leaves out " + strings.Join(missing, ", ")}
	if s.Initialized {
		reasons[0] = "the cluster is down, etcd starts only with a majority of its members, and this leaves out " + strings.Join(missing, ", ")
	}
	for _, name := range missing {
		if held := s.Held[name]; len(held) > 0 {
			reasons = append(reasons, name+": "+strings.Join(held, "; "))
		}
	}
	return Refusal(HostsUnchanged, reasons)
}

// selected reports whether a host, or "" for the cluster as a whole, is neither left out nor held.
func (s Situation) selected(host string) bool {
	return len(s.Held[host]) == 0 && (len(s.Selected) == 0 || slices.Contains(s.Selected, host))
}

// HeldError names the hosts that a run did not change.
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
	return "not changed, and not as the spec requires:\n  " + strings.Join(lines, "\n  ")
}

// idle returns the nodes on which there is nothing left to disturb: those that are not Ready, and,
// if the cluster is down and the API could not be queried, those whose certificates are renewed:
// these have expired, or the cluster has been down for long.
func (s Situation) idle() map[string]bool {
	idle := map[string]bool{}
	maps.Copy(idle, s.Down)
	for _, c := range s.Changes {
		if s.APIError != "" && !s.Alive && isServed(c) {
			idle[c.Host] = true
		}
	}
	return idle
}

// Unobserved returns the machines that were not observed.
func Unobserved(machines []spec.Machine, observed stack.State) []string {
	var all []string
	for _, m := range machines {
		if _, ok := observed.Hosts[m.Name]; !ok {
			all = append(all, m.Name)
		}
	}
	return all
}

// CheckUID refuses a cluster if its API has the UID of another one.
func CheckUID(in stack.Input, api string) error {
	if api == "" || api == in.UID {
		return nil
	}
	return Refusal(HostsUnchanged, []string{fmt.Sprintf("the cluster's API has the UID %s (ConfigMap kube-system/slipway-cluster), and the "+
		"state is of %s. If it is that cluster, its state is in another place: set SLIPWAY_STATE_DIR or spec.state to it. "+
		"If it is not, another cluster's object was restored there, as from a backup: "+
		"run `kubectl -n kube-system delete configmap slipway-cluster`, and the next apply writes it again", api, in.UID)})
}

// Forget drops what hosts have recorded of a cluster that was up in another generation.
func Forget(in stack.Input, observed stack.State) {
	for name, h := range observed.Hosts {
		if stack.OtherGeneration(in, h.Facts) {
			h.Facts.Initialized = false
			delete(h.Files, stack.InitializedFile)
			observed.Hosts[name] = h
		}
	}
}

// Serves reports whether an API server runs anywhere.
func Serves(observed stack.State) bool {
	for _, h := range observed.Hosts {
		if h.Units["kube-apiserver.service"].Active {
			return true
		}
	}
	return false
}

// ChangeOfObject returns the change that updates an object in the API.
func ChangeOfObject(o kube.Change) Change {
	c := Change{Kind: ObjectChange, Name: o.Object, Action: Update, Cause: Drift, From: shown(o.Live), To: shown(o.Wanted)}
	switch {
	case o.Err != nil:
		c.Cause, c.Reason = Wanted, "could not be compared completely: "+o.Err.Error()
	case o.Missing:
		c.Action, c.Reason = Create, "is missing"
	case o.By != "":
		c.Reason = "changed by " + o.By + at(o.At)
	default:
		c.Reason = "differs"
	}
	return c
}

// shown returns the digest of an object's text, "" for none.
func shown(text string) string {
	if text == "" {
		return ""
	}
	return stack.Digest([]byte(text))
}
