package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// shape is a cluster of some size with what is desired of it; the properties below hold for all of them.
type shape struct {
	machines       []spec.Machine
	desired        stack.State
	maxUnavailable map[string]int
}

// shapes are clusters of one, three and five control planes with two pools of workers, cut from real desired states.
func shapes(t *testing.T) []shape {
	in := fixture.Input(t)
	models := []stack.State{fixture.Desired(t, in), fixture.Desired(t, fixture.Blind(in))}
	var all []shape
	for i, size := range [][3]int{{1, 0, 0}, {1, 2, 0}, {3, 1, 4}, {3, 7, 0}, {5, 3, 3}} {
		model := models[i%2] // every second sees no bundle
		s := shape{
			desired:        stack.State{Hosts: map[string]stack.HostState{}, Nodes: map[string]kube.Node{}, Members: map[string]stack.Member{}},
			maxUnavailable: map[string]int{"a": 1 + size[1]%3, "b": 1},
		}
		for pool, n := range size {
			for i := range n {
				m := spec.Machine{Name: fmt.Sprintf("%c-%d", "mab"[pool], i+1), Pool: string("mab"[pool]), Role: spec.Worker}
				like := "demo-worker-1"
				if pool == 0 {
					m.Role, like = spec.ControlPlane, "demo-cp-1"
					s.desired.Members[m.Name] = stack.Member{PeerURL: "https://" + m.Name, Healthy: true}
				}
				s.machines = append(s.machines, m)
				s.desired.Hosts[m.Name], s.desired.Nodes[m.Name] = model.Hosts[like], model.Nodes[like]
			}
		}
		all = append(all, s)
	}
	return all
}

// observe makes up what could be found instead of what is desired: nothing yet, all of it, or anything between.
func (s shape) observe(r *rand.Rand) stack.State {
	wear := []float64{0, 0.01, 0.1, 0.5, 1}[r.IntN(5)]
	odd := func() bool { return r.Float64() < wear }
	seen := stack.State{Hosts: map[string]stack.HostState{}, Nodes: map[string]kube.Node{}, Members: map[string]stack.Member{}}
	for name, want := range s.desired.Hosts {
		seen.Hosts[name] = wornHost(want, odd, r)
		if node := s.desired.Nodes[name]; !odd() {
			seen.Nodes[name] = wornNode(node, odd)
		}
	}
	for name, m := range s.desired.Members {
		m.Healthy = !odd()
		seen.Members[name] = m
	}
	return seen
}

func wornHost(want stack.HostState, odd func() bool, r *rand.Rand) stack.HostState {
	have := stack.HostState{
		Files: map[string]stack.File{}, Units: map[string]stack.Unit{}, Sysctls: map[string]string{}, Modules: map[string]bool{},
		Accounts: map[string]bool{}, Images: map[string]bool{}, Owned: map[string]string{},
	}
	for p, f := range want.Files {
		f.Content = nil
		switch {
		case odd(): // missing
			continue
		case odd():
			f.Digest = "edited"
		case odd():
			f.Mode ^= 0o111
		case odd():
			f.Owner = "nobody:nogroup"
		}
		have.Files[p] = f
		if !odd() {
			have.Owned[p] = f.Digest
		}
	}
	if odd() {
		have.Files["/old"], have.Owned["/old"] = stack.File{Mode: 0o644, Digest: "old"}, "old"
	}
	if odd() {
		have.Owned[stack.UnitDir+"old.service"], have.Units["old.service"] = "old", stack.Unit{Enabled: true, Active: true}
		have.Files[stack.UnitDir+"old.service"] = stack.File{Mode: 0o644, Digest: "old"}
	}
	for name, u := range want.Units {
		u.State = "active/running"
		switch {
		case odd(): // missing
			continue
		case odd():
			u.Active, u.State = false, []string{"failed/failed", "inactive/dead", "activating/start"}[r.IntN(3)]
		case odd():
			u.Inputs = "others"
		}
		u.Enabled = !odd()
		if odd() {
			u.Running = 2 * u.MaxAge
		}
		have.Units[name] = u
	}
	for key := range want.Sysctls {
		have.Sysctls[key] = want.Sysctls[key]
		if odd() {
			have.Sysctls[key] = "0"
		}
	}
	for name := range want.Modules {
		have.Modules[name] = !odd()
	}
	for name := range want.Accounts {
		have.Accounts[name] = !odd()
	}
	for ref := range want.Images {
		if !odd() {
			have.Images[ref] = true
		}
	}
	return have
}

func wornNode(want kube.Node, odd func() bool) kube.Node {
	n := want
	n.Labels, n.Taints = maps.Clone(want.Labels), maps.Clone(want.Taints)
	n.RecordedLabels, n.RecordedTaints = maps.Clone(want.Labels), maps.Clone(want.Taints)
	for _, settings := range []map[string]string{n.Labels, n.Taints} {
		for key := range settings {
			if odd() {
				settings[key] = "others"
			}
			if odd() {
				delete(settings, key)
			}
		}
		settings["theirs"] = "stays"
	}
	if odd() && n.RecordedLabels != nil {
		n.Labels["old"], n.RecordedLabels["old"] = "1", "1"
	}
	for _, key := range want.Absent {
		if odd() {
			n.Labels[key] = "added"
		}
	}
	n.Ready = !odd()
	return n
}

// carryOut does to an observed state what a change says, as the steps do to hosts.
func carryOut(c Change, desired, observed stack.State) {
	want, have := desired.Hosts[c.Host], observed.Hosts[c.Host]
	switch c.Kind {
	case FileChange, ProgramChange:
		if c.Action == Delete {
			delete(have.Files, c.Name)
			delete(have.Owned, c.Name)
			return
		}
		have.Files[c.Name] = want.Files[c.Name]
		have.Owned[c.Name] = want.Files[c.Name].Digest
	case UnitChange:
		if c.Action == Delete {
			delete(have.Units, c.Name)
			return
		}
		have.Units[c.Name] = want.Units[c.Name]
	case SysctlChange:
		have.Sysctls[c.Name] = want.Sysctls[c.Name]
	case ModuleChange:
		have.Modules[c.Name] = true
	case AccountChange:
		have.Accounts[c.Name] = true
	case ImageChange:
		have.Images[c.Name] = true
	case NodeChange:
		n, there := observed.Nodes[c.Host]
		if !there { // it registers, and is given its labels and taints in the same step
			n = desired.Nodes[c.Host]
		}
		n.Ready, n.Version = true, desired.Nodes[c.Host].Version
		observed.Nodes[c.Host] = n
	case LabelChange, TaintChange:
		n, wanted := observed.Nodes[c.Host], desired.Nodes[c.Host]
		settings, wish := n.Labels, wanted.Labels
		if c.Kind == TaintChange {
			settings, wish = n.Taints, wanted.Taints
		}
		if c.Action == Delete {
			delete(settings, c.Name)
		} else if n.Version != "" {
			settings[c.Name] = wish[c.Name]
		}
	case MemberChange:
		observed.Members[c.Host] = desired.Members[c.Host]
	}
}

// each runs a property over many random situations of every shape, always the same ones.
func each(t *testing.T, property func(t *testing.T, s shape, observed stack.State, situation Situation, r *rand.Rand)) {
	for i, s := range shapes(t) {
		r := rand.New(rand.NewPCG(1, uint64(i))) // #nosec G404 -- a test that fails must fail again
		for range 20 {
			observed := s.observe(r)
			situation := Situation{
				Machines: s.machines, Alive: r.IntN(3) > 0, Initialized: r.IntN(2) > 0, Changes: Diff(s.desired, observed), MaxUnavailable: s.maxUnavailable,
			}
			if r.IntN(5) == 0 {
				situation.APIError = "no answer"
			} else {
				situation.Down = NotReady(s.desired, observed)
			}
			property(t, s, observed, situation, r)
			if t.Failed() {
				t.Fatalf("shape %d, alive %t, unasked %q, steps:\n%s", i, situation.Alive, situation.APIError, listed(Schedule(situation)))
			}
		}
	}
}

// Applying the difference to what was observed gives what is desired.
func TestPropertyDiffLeadsToTheDesired(t *testing.T) {
	each(t, func(t *testing.T, s shape, observed stack.State, situation Situation, _ *rand.Rand) {
		for _, c := range situation.Changes {
			carryOut(c, s.desired, observed)
		}
		if left := Diff(s.desired, observed); len(left) > 0 {
			t.Errorf("still different: %v", left)
		}
	})
}

// Every change is carried out by exactly one step; stopped after any number of steps, what is left is exactly what the
// other steps would have carried out.
func TestPropertyStepsCarryOutEveryChangeOnce(t *testing.T) {
	each(t, func(t *testing.T, s shape, observed stack.State, situation Situation, r *rand.Rand) {
		steps := Schedule(situation)
		owner := map[string]string{}
		for _, step := range steps {
			for _, c := range step.Changes {
				if other, twice := owner[c.Key()]; twice {
					t.Errorf("%s is carried out by %q and by %q", c, other, step.Name)
				}
				owner[c.Key()] = step.Name
			}
		}
		for _, c := range situation.Changes {
			if owner[c.Key()] == "" {
				t.Errorf("%s is carried out by no step", c)
			}
		}
		if len(steps) == 0 {
			return
		}
		done := r.IntN(len(steps))
		for _, step := range steps[:done] {
			for _, c := range step.Changes {
				carryOut(c, s.desired, observed)
			}
		}
		left := map[string]bool{}
		for _, step := range steps[done:] {
			for _, c := range step.Changes {
				left[c.Key()] = true
			}
		}
		for _, c := range Diff(s.desired, observed) {
			if !left[c.Key()] {
				t.Errorf("after %q, %s would be done again", steps[done-1].Name, c)
			}
		}
	})
}
