package plan

import (
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// aged is a living cluster that is as desired, and in which all runs for some time.
func aged(t *testing.T, in stack.Input, running time.Duration) stack.State {
	t.Helper()
	s := observedAs(t, in)
	for _, h := range s.Hosts {
		for name, u := range h.Units {
			u.Running, u.Changed = running, time.Now().Add(-running)
			h.Units[name] = u
		}
	}
	return s
}

// Servers that could outlive the certificate with which they speak to themselves are restarted, and nothing else is, and
// the plan gives that reason, whatever was applied before.
func TestServersAreRestartedForTheirAge(t *testing.T) {
	in := fixture.Input(t)
	want := fixture.Desired(t, in)
	if changes := Diff(want, aged(t, in, stack.LoopbackAge)); len(changes) > 0 {
		t.Errorf("restarted too early: %v", changes)
	}
	for name, b := range map[string]Before{"applied": before(t, in), "not known": {}} {
		changes := Diff(want, aged(t, in, stack.LoopbackAge+time.Hour))
		Explain(changes, CausesOf(in, b, stack.Desired))
		var got []string
		for _, c := range changes {
			got = append(got, c.Host+" "+c.Name)
			date := time.Now().Add(-stack.LoopbackAge - time.Hour).Format(time.DateOnly)
			if c.Action != Restart || c.Cause != Wanted || !strings.HasPrefix(c.Reason, "has run since "+date) || !strings.HasSuffix(c.Reason, "after its start") {
				t.Errorf("%s: %s", name, c)
			}
		}
		const all = "demo-cp-1 kube-apiserver.service, demo-cp-1 kube-controller-manager.service, demo-cp-1 kube-scheduler.service, " +
			"demo-cp-2 kube-apiserver.service, demo-cp-2 kube-controller-manager.service, demo-cp-2 kube-scheduler.service, " +
			"demo-cp-3 kube-apiserver.service, demo-cp-3 kube-controller-manager.service, demo-cp-3 kube-scheduler.service"
		if strings.Join(got, ", ") != all {
			t.Errorf("%s: restarted are %v", name, got)
		}
	}
}

// That time goes by is no reason to refuse a saved plan.
func TestSavedPlanDoesNotAge(t *testing.T) {
	in := fixture.Input(t)
	saved, _ := savedPlan(t, in)
	observed := aged(t, in, 24*time.Hour)
	delete(observed.Hosts["demo-worker-1"].Files, "/etc/crictl.yaml")
	now := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, in), observed)})
	if moved := saved.Moved(observed, now); len(moved) > 0 {
		t.Errorf("nothing has moved, and named are %q", moved)
	}
}
