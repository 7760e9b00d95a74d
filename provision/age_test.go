package provision

import (
	"strings"
	"testing"
	"time"
)

// aged is a living cluster that is as desired, and in which all runs for some time.
func aged(t *testing.T, in Input, running time.Duration) State {
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
	in := input(t)
	want := desired(t, in)
	if changes := Diff(want, aged(t, in, loopbackAge)); len(changes) > 0 {
		t.Errorf("restarted too early: %v", changes)
	}
	for name, b := range map[string]Before{"applied": before(t, in), "not known": {}} {
		changes := Diff(want, aged(t, in, loopbackAge+time.Hour))
		Explain(changes, (&Runner{Input: in, Before: b}).Causes())
		var got []string
		for _, c := range changes {
			got = append(got, c.Host+" "+c.Name)
			date := time.Now().Add(-loopbackAge - time.Hour).Format(time.DateOnly)
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
	in := input(t)
	saved, _ := savedPlan(t, in)
	observed := aged(t, in, 24*time.Hour)
	delete(observed.Hosts["demo-worker-1"].Files, "/etc/crictl.yaml")
	now := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(desired(t, in), observed)})
	if moved := saved.Moved(observed, now); len(moved) > 0 {
		t.Errorf("nothing has moved, and named are %q", moved)
	}
}

func TestRunning(t *testing.T) {
	begin := time.Date(2026, 11, 20, 12, 3, 0, 0, time.UTC)
	for _, tt := range []struct {
		active       bool
		changed, now time.Time
		want         time.Duration
	}{
		{true, begin, begin.Add(time.Hour), time.Hour},
		{false, begin, begin.Add(time.Hour), 0},
		{true, time.Time{}, begin, 0}, // not known: it would be restarted for ever
		{true, begin, time.Time{}, 0},
		{true, begin, begin.Add(-time.Hour), 0}, // the clock was set back
	} {
		if got := running(tt.active, tt.changed, tt.now); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
