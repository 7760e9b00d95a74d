package simulate

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/testing/fixture"
)

// without takes the steps of some verbs out of a schedule: what waited for them waits for what they waited for.
func without(verbs ...plan.Verb) func([]plan.Step) []plan.Step {
	return func(steps []plan.Step) (left []plan.Step) {
		instead := map[string][]string{}
		for _, s := range steps {
			var deps []string
			for _, d := range s.Deps {
				if before, gone := instead[d]; gone {
					deps = append(deps, before...)
				} else {
					deps = append(deps, d)
				}
			}
			slices.Sort(deps)
			s.Deps = slices.Compact(deps)
			if slices.Contains(verbs, s.Verb) {
				instead[s.Name] = s.Deps
				continue
			}
			left = append(left, s)
		}
		return left
	}
}

// kubeletStarts is a command that starts or restarts units, the kubelet among them.
var kubeletStarts = regexp.MustCompile(`systemctl [^|\n]*start [^|\n]*kubelet\.service[^|\n]*`)

// A slipway that is broken on purpose is found out by the invariant that says so, and soon.
func TestSimulationFindsWhatIsBroken(t *testing.T) {
	fixture.Alone(t)
	const most = 300 // seeds
	all := shapes(t)
	for _, tt := range []struct {
		name, invariant string
		options         Options
	}{
		{"no proof that etcd can spare a member", "quorum:", Options{Filter: without(plan.CheckQuorum)}},
		{"no gates between control planes", "turn:", Options{Filter: func(steps []plan.Step) []plan.Step {
			for i := range steps {
				if steps[i].Verb == plan.Apply || steps[i].Verb == plan.CheckQuorum {
					steps[i].Deps = nil
				}
			}
			return steps
		}}},
		{"gates that do not wait", "gate:", Options{Filter: without(plan.AwaitUnits, plan.AwaitEtcd), Sabotage: func(script string) string {
			return strings.ReplaceAll(script, "systemctl restart containerd", "systemctl --no-block restart containerd")
		}}},
		{"a failure that says that nothing was changed", "words:", Options{Lies: true}},
		{"no proof that a cluster is down", "down:", Options{Filter: without(plan.ProveDown)}},
		{"etcd's data is deleted", "data:", Options{Sabotage: func(script string) string {
			if strings.HasPrefix(script, "set -e\n") && strings.Contains(script, "restart") {
				script += "rm -rf -- '/var/lib/etcd'\n"
			}
			return script
		}}},
		{"a key is deleted", "keys:", Options{Sabotage: func(script string) string {
			if strings.HasPrefix(script, "set -e\n") && strings.Contains(script, "daemon-reload") {
				script += "rm -f -- '/etc/kubernetes/pki/ca.key'\n"
			}
			return script
		}}},
		{"a host that lost its disk is believed to have etcd's data", "member:", Options{Hears: func(out string) string {
			return strings.Replace(out, "[facts]\n", "[facts]\netcddata=whole\ncluster="+all[0].Variants[0].Input.UID+"\n", 1)
		}}},
		{"two operators", "lock:", Options{Unlocked: true}},
		{"a lock that is stolen", "stolen:", Options{Unlocked: true}},
		{"a key is printed", "secret:", Options{Talks: func(s *Shape) string {
			return "the key is " + string(s.Variants[0].Input.PKI.Material["ca"].Key.Reveal())
		}}},
		{"a unit is never started", "end:", Options{Sabotage: func(script string) string {
			return kubeletStarts.ReplaceAllString(script, "systemctl enable --quiet kubelet.service ")
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(most) {
				found := simulated(t, all, seed, tt.options).Broken
				if slices.ContainsFunc(found, func(why string) bool { return strings.HasPrefix(why, tt.invariant) }) {
					t.Logf("found by seed %d: %s", seed, found[0])
					return
				}
			}
			t.Errorf("%d seeds have not found it", most)
		})
	}
}

// A seed is one course of events.
func TestSeedsAreReproducible(t *testing.T) {
	fixture.Alone(t)
	all := shapes(t)
	for seed := range number(t, "SEEDS", 25) {
		one, two := simulated(t, all, seed, Options{Trace: true}), simulated(t, all, seed, Options{Trace: true})
		if one.Sum == two.Sum && len(one.Trace) == len(two.Trace) && len(one.Trace) > 10 {
			continue
		}
		slices.Sort(one.Trace)
		slices.Sort(two.Trace)
		for i := range one.Trace {
			if i >= len(two.Trace) || one.Trace[i] != two.Trace[i] {
				t.Fatalf("seed %d: line %d was\n%s\nand then\n%s", seed, i+1, one.Trace[i], two.Trace[min(i, len(two.Trace)-1)])
			}
		}
		t.Fatalf("seed %d: %d lines, and then %d", seed, len(one.Trace), len(two.Trace))
	}
}
