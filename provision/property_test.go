package provision

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// shape is a cluster of some size with what is desired of it; the properties below hold for all of them.
type shape struct {
	machines       []spec.Machine
	desired        State
	maxUnavailable map[string]int
}

// shapes are clusters of one, three and five control planes with two pools of workers, cut from real desired states.
func shapes(t *testing.T) []shape {
	in := input(t)
	model := desired(t, in)
	var all []shape
	for _, size := range [][3]int{{1, 0, 0}, {1, 2, 0}, {3, 1, 4}, {3, 7, 0}, {5, 3, 3}} {
		s := shape{
			desired:        State{Hosts: map[string]HostState{}, Nodes: map[string]kube.Node{}, Members: map[string]Member{}},
			maxUnavailable: map[string]int{"a": 1 + size[1]%3, "b": 1},
		}
		for pool, n := range size {
			for i := range n {
				m := spec.Machine{Name: fmt.Sprintf("%c-%d", "mab"[pool], i+1), Pool: string("mab"[pool]), Role: spec.Worker}
				like := "demo-worker-1"
				if pool == 0 {
					m.Role, like = spec.ControlPlane, "demo-cp-1"
					s.desired.Members[m.Name] = Member{PeerURL: "https://" + m.Name, Healthy: true}
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
func (s shape) observe(r *rand.Rand) State {
	wear := []float64{0, 0.01, 0.1, 0.5, 1}[r.IntN(5)]
	odd := func() bool { return r.Float64() < wear }
	seen := State{Hosts: map[string]HostState{}, Nodes: map[string]kube.Node{}, Members: map[string]Member{}}
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

func wornHost(want HostState, odd func() bool, r *rand.Rand) HostState {
	have := HostState{
		Files: map[string]File{}, Units: map[string]Unit{}, Sysctls: map[string]string{}, Modules: map[string]bool{},
		Images: map[string]bool{}, Owned: map[string]string{},
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
		have.Files["/old"], have.Owned["/old"] = File{Mode: 0o644, Digest: "old"}, "old"
	}
	if odd() {
		have.Owned[unitDir+"old.service"], have.Units["old.service"] = "old", Unit{Enabled: true, Active: true}
		have.Files[unitDir+"old.service"] = File{Mode: 0o644, Digest: "old"}
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
func carryOut(c Change, desired, observed State) {
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
func each(t *testing.T, property func(t *testing.T, s shape, observed State, situation Situation, r *rand.Rand)) {
	for i, s := range shapes(t) {
		r := rand.New(rand.NewPCG(1, uint64(i))) // #nosec G404 -- a test that fails must fail again
		for range 20 {
			observed := s.observe(r)
			situation := Situation{
				Machines: s.machines, Alive: r.IntN(3) > 0, Initialized: r.IntN(2) > 0, Changes: Diff(s.desired, observed), MaxUnavailable: s.maxUnavailable,
			}
			if r.IntN(5) == 0 {
				situation.Unasked = "no answer"
			}
			property(t, s, observed, situation, r)
			if t.Failed() {
				t.Fatalf("shape %d, alive %t, unasked %q, steps:\n%s", i, situation.Alive, situation.Unasked, listed(Schedule(situation)))
			}
		}
	}
}

// Applying the difference to what was observed gives what is desired.
func TestPropertyDiffLeadsToTheDesired(t *testing.T) {
	each(t, func(t *testing.T, s shape, observed State, situation Situation, _ *rand.Rand) {
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
	each(t, func(t *testing.T, s shape, observed State, situation Situation, r *rand.Rand) {
		steps := Schedule(situation)
		owner := map[string]string{}
		for _, step := range steps {
			for _, c := range step.Changes {
				if other, twice := owner[c.key()]; twice {
					t.Errorf("%s is carried out by %q and by %q", c, other, step.Name)
				}
				owner[c.key()] = step.Name
			}
		}
		for _, c := range situation.Changes {
			if owner[c.key()] == "" {
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
				left[c.key()] = true
			}
		}
		for _, c := range Diff(s.desired, observed) {
			if !left[c.key()] {
				t.Errorf("after %q, %s would be done again", steps[done-1].Name, c)
			}
		}
	})
}

// A schedule has no cycle, names nothing that is not there, and no step waits for what it waits for anyway.
func TestPropertySchedulesAreSound(t *testing.T) {
	each(t, func(t *testing.T, _ shape, _ State, situation Situation, _ *rand.Rand) {
		steps := Schedule(situation)
		var p plan.Plan
		for _, s := range steps {
			p.Steps = append(p.Steps, plan.Step{Name: s.Name, Deps: s.Deps, Do: func(context.Context) error { return nil }})
		}
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
		before := closure(steps)
		for _, s := range steps {
			for _, d := range s.Deps {
				for _, other := range s.Deps {
					if d != other && before[other][d] {
						t.Errorf("%q waits for %q, which %q does already", s.Name, d, other)
					}
				}
			}
		}
	})
}

// closure gives all that each step waits for, at any distance. Steps come after what they wait for.
func closure(steps []Step) map[string]map[string]bool {
	before := map[string]map[string]bool{}
	for _, s := range steps {
		before[s.Name] = map[string]bool{}
		for _, d := range s.Deps {
			before[s.Name][d] = true
			maps.Copy(before[s.Name], before[d])
		}
	}
	return before
}

// Steps are ordered for a reason: two of one host, or through the gate of the cluster, of a control plane or of a batch.
// Between what need not wait there is no order.
func TestPropertyDependenciesAreReal(t *testing.T) {
	each(t, func(t *testing.T, s shape, _ State, situation Situation, _ *rand.Rand) {
		byName := map[string]Step{}
		role := map[string]spec.Machine{"": {}}
		for _, m := range s.machines {
			role[m.Name] = m
		}
		for _, step := range Schedule(situation) {
			byName[step.Name] = step
			for _, d := range step.Deps {
				dep := byName[d]
				same := dep.Host == step.Host
				api := dep.Host == "" || step.Host == "" && role[dep.Host].Role == spec.ControlPlane
				gate := dep.Verb == EnsureNode && (situation.Alive || situation.Initialized && role[dep.Host].Role == spec.Worker)
				if !same && !api && !gate {
					t.Errorf("%q waits for %q for no reason", step.Name, d)
				}
			}
		}
	})
}

// simulation carries out a schedule with as many steps at a time as can be, in random order, and looks at what is
// disturbed meanwhile. A host is from the beginning of its changes until its last step has ended.
type simulation struct {
	shape
	situation Situation
	steps     []Step
	state     map[string]int // 0 waiting, 1 running, 2 done
	sick      map[string]bool
}

func (s *simulation) ready(step Step) bool {
	return s.state[step.Name] == 0 && !slices.ContainsFunc(step.Deps, func(d string) bool { return s.state[d] != 2 })
}

// disturbed lists the hosts that somebody could miss: those that joined nothing yet are not among them.
func (s *simulation) disturbed() map[string]bool {
	hosts := map[string]bool{}
	p := planner{Situation: s.situation, of: map[string][]Change{}}
	for _, c := range s.situation.Changes {
		p.of[c.Host] = append(p.of[c.Host], c)
	}
	for _, step := range s.steps {
		if step.Verb != Apply || s.state[step.Name] == 0 || p.joining(step.Host) {
			continue
		}
		for _, later := range s.steps {
			if later.Host == step.Host && s.state[later.Name] != 2 {
				hosts[step.Host] = true
			}
		}
	}
	return hosts
}

func (s *simulation) members(disturbed map[string]bool) []etcd.Member {
	var members []etcd.Member
	for _, m := range s.machines {
		if m.Role == spec.ControlPlane {
			members = append(members, etcd.Member{Name: m.Name, Healthy: !s.sick[m.Name] && !disturbed[m.Name], Err: context.Canceled})
		}
	}
	return members
}

// On a living cluster no two control planes are ever disturbed at once, a quorum of etcd's healthy members is never
// touched, and of no pool more nodes are disturbed than it allows.
func TestPropertyLivingClustersStayUp(t *testing.T) {
	each(t, func(t *testing.T, sh shape, observed State, situation Situation, r *rand.Rand) {
		situation.Alive = true
		s := &simulation{shape: sh, situation: situation, steps: Schedule(situation), state: map[string]int{}, sick: map[string]bool{}}
		healthy := 0
		for name, m := range observed.Members {
			s.sick[name] = !m.Healthy
			if m.Healthy {
				healthy++
			}
		}
		quorum := len(observed.Members)/2 + 1
		for {
			var can []Step
			for _, step := range s.steps {
				if s.ready(step) || s.state[step.Name] == 1 {
					can = append(can, step)
				}
			}
			if len(can) == 0 {
				return
			}
			step := can[r.IntN(len(can))]
			if s.state[step.Name]++; s.state[step.Name] == 1 && step.Verb == ProveSpare {
				if etcd.Spares(s.members(s.disturbed()), step.Host) != nil {
					return // the gate stays shut, and the run ends
				}
			}
			if s.state[step.Name] == 2 && step.Verb == AwaitEtcd {
				s.sick[step.Host] = false
			}
			s.check(t, healthy, quorum)
		}
	})
}

func (s *simulation) check(t *testing.T, healthyAtFirst, quorum int) {
	disturbed := s.disturbed()
	pools := map[string][]string{}
	for _, m := range s.machines {
		if disturbed[m.Name] {
			pools[m.Pool] = append(pools[m.Pool], m.Name)
		}
	}
	if len(pools["m"]) > 1 {
		t.Errorf("control planes %v are disturbed at once", pools["m"])
	}
	for _, pool := range []string{"a", "b"} {
		if len(pools[pool]) > s.maxUnavailable[pool] {
			t.Errorf("%v of pool %s are disturbed at once, and %d may", pools[pool], pool, s.maxUnavailable[pool])
		}
	}
	healthy := 0
	for _, m := range s.members(disturbed) {
		if m.Healthy {
			healthy++
		}
	}
	if healthyAtFirst >= quorum && healthy < quorum && len(s.members(nil)) > 1 {
		t.Errorf("%d members are healthy, and a quorum is %d", healthy, quorum)
	}
}
