package plan

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// A schedule has no cycle, names nothing that is not there, and no step waits for what it waits for anyway.
func TestPropertySchedulesAreSound(t *testing.T) {
	each(t, func(t *testing.T, _ shape, _ stack.State, situation Situation, _ *rand.Rand) {
		steps := Schedule(situation)
		var p dag.Plan
		for _, s := range steps {
			p.Steps = append(p.Steps, dag.Step{Name: s.Name, Deps: s.Deps, Do: func(context.Context) error { return nil }})
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
	each(t, func(t *testing.T, s shape, _ stack.State, situation Situation, _ *rand.Rand) {
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
				if !same && !api && !gate && step.Verb != AwaitUsable { // which looks at all of the cluster
					t.Errorf("%q waits for %q for no reason", step.Name, d)
				}
			}
		}
	})
}

// That the cluster has been up is recorded on no control plane before its own member of etcd is proven: a record where etcd
// never had data would have the next apply refused.
func TestPropertyOnlyMembersThatAreProvenAreSealed(t *testing.T) {
	sealed := 0
	each(t, func(t *testing.T, _ shape, _ stack.State, situation Situation, _ *rand.Rand) {
		steps := Schedule(situation)
		before := closure(steps)
		for _, s := range steps {
			if s.Verb != MarkInitialized {
				continue
			}
			sealed++
			if !before[s.Name][newStep(AwaitEtcd, s.Host, nil, nil).Name] {
				t.Errorf("%q waits for %q only", s.Name, s.Deps)
			}
		}
	})
	if sealed == 0 {
		t.Error("nothing was sealed")
	}
}

// What has to be copied to a host is copied before its programs change, once, and waits for nothing; and what was proven for
// the sake of a change is not proven long before it, while something is still being copied.
func TestPropertyProgramsAreCopiedBefore(t *testing.T) {
	copies := 0
	each(t, func(t *testing.T, _ shape, _ stack.State, situation Situation, _ *rand.Rand) {
		steps := Schedule(situation)
		before := closure(steps)
		copied := map[string]bool{}
		for _, s := range steps {
			if s.Verb == Deliver {
				copied[s.Host] = true
				copies++
				if len(s.Deps) > 0 || s.Gate() || !s.Interruptible() {
					t.Errorf("%q is %+v", s.Name, s)
				}
			}
		}
		for _, s := range steps {
			lacks := slices.ContainsFunc(s.Changes, func(c Change) bool { return c.Copy > 0 })
			delivery := newStep(Deliver, s.Host, nil, nil).Name
			if lacks && (s.Verb != Install && s.Verb != Apply || !before[s.Name][delivery]) {
				t.Errorf("%q waits for %q only", s.Name, s.Deps)
			}
			if s.Verb == CheckQuorum && copied[s.Host] && !before[s.Name][delivery] {
				t.Errorf("%q does not wait for what is copied", s.Name)
			}
		}
	})
	if copies == 0 {
		t.Error("nothing was copied")
	}
}

// A worker that is not Ready waits for no other worker, however many there are, and those of its pool that are Ready wait for it
// as far as the pool allows no more to be disturbed.
func TestPropertyWorkersThatAreDownWaitForNone(t *testing.T) {
	each(t, func(t *testing.T, s shape, _ stack.State, situation Situation, _ *rand.Rand) {
		worker, pool := map[string]bool{}, map[string]string{}
		for _, m := range s.machines {
			worker[m.Name], pool[m.Name] = m.Role == spec.Worker, m.Pool
		}
		steps := Schedule(situation)
		p := planner{Situation: situation, of: map[string][]Change{}}
		for _, c := range situation.Changes {
			p.of[c.Host] = append(p.of[c.Host], c)
		}
		before, down, idle := closure(steps), map[string]int{}, situation.idle()
		for _, step := range steps {
			if worker[step.Host] && idle[step.Host] && !p.joining(step.Host) && step.Verb == EnsureNode {
				down[pool[step.Host]]++
			}
		}
		for _, step := range steps {
			if !worker[step.Host] {
				continue
			}
			for other := range before[step.Name] {
				if name, _, _ := strings.Cut(other, ":"); idle[step.Host] && worker[name] && name != step.Host {
					t.Errorf("%q is of a worker that is down, and waits for %q", step.Name, other)
				}
			}
		}
		if !situation.Alive && !situation.Initialized {
			return
		}
		for _, step := range steps {
			if !worker[step.Host] || idle[step.Host] || p.joining(step.Host) || step.Verb != EnsureNode || down[pool[step.Host]] < s.maxUnavailable[pool[step.Host]] {
				continue
			}
			waits := 0
			for other := range before[step.Name] {
				if name, title, _ := strings.Cut(other, ": "); title == "wait for the node" && idle[name] && pool[name] == pool[step.Host] && !p.joining(name) {
					waits++
				}
			}
			if waits != down[pool[step.Host]] {
				t.Errorf("%q waits for %d of %d of its pool that are down", step.Name, waits, down[pool[step.Host]])
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

// disturbed lists the hosts that somebody could miss: those that joined nothing yet are not among them, nor workers that
// were not Ready.
func (s *simulation) disturbed() map[string]bool {
	hosts := map[string]bool{}
	p := planner{Situation: s.situation, of: map[string][]Change{}}
	for _, c := range s.situation.Changes {
		p.of[c.Host] = append(p.of[c.Host], c)
	}
	for _, step := range s.steps {
		if step.Verb != Apply || s.state[step.Name] == 0 || p.joining(step.Host) || s.spared(step.Host) || unread(p.of[step.Host]) {
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

// unread says that nothing on a node can notice its changes.
func unread(changes []Change) bool {
	return !slices.ContainsFunc(changes, func(c Change) bool { return c.Name != "/etc/crictl.yaml" && c.Name != "/var/lib/slipway/owned" })
}

// spared are workers that were not Ready before anything was done.
func (s *simulation) spared(name string) bool {
	return s.situation.Down[name] && !slices.ContainsFunc(s.machines, func(m spec.Machine) bool { return m.Name == name && m.Role == spec.ControlPlane })
}

func (s *simulation) members(disturbed map[string]bool) []etcd.Member {
	p := planner{of: map[string][]Change{}}
	for _, c := range s.situation.Changes {
		p.of[c.Host] = append(p.of[c.Host], c)
	}
	var members []etcd.Member
	for _, m := range s.machines {
		if m.Role == spec.ControlPlane {
			members = append(members, etcd.Member{Name: m.Name, Healthy: !s.sick[m.Name] && (!disturbed[m.Name] || !p.restartsEtcd(m.Name)), Err: context.Canceled})
		}
	}
	return members
}

// On a living cluster no two control planes are ever disturbed at once, a quorum of etcd's healthy members is never
// touched, and of no pool more nodes are disturbed than it allows.
func TestPropertyLivingClustersStayUp(t *testing.T) {
	each(t, func(t *testing.T, sh shape, observed stack.State, situation Situation, r *rand.Rand) {
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
			if s.state[step.Name]++; s.state[step.Name] == 1 && step.Verb == CheckQuorum {
				if etcd.QuorumWithout(s.members(s.disturbed()), step.Host) != nil {
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
