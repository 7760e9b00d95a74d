package converge

import (
	"errors"
	"testing"
	"testing/synctest"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// TestUnreadHostsAreHeld: the others go on without them, but for a rotation, and where nothing is left.
func TestUnreadHostsAreHeld(t *testing.T) {
	unread := &observe.UnreadError{Hosts: map[string]error{"demo-cp-2": &observe.HungError{Host: "demo-cp-2"}}}
	given := map[string]host.Host{"demo-cp-1": nil, "demo-cp-2": nil}
	read := stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": {}}}
	l := looking{View: View{Hosts: given, Observed: read}}
	if err := l.withoutUnread(t.Context(), unread); err != nil || len(l.unread["demo-cp-2"]) != 1 || len(l.Hosts) != 1 || len(given) != 2 {
		t.Errorf("held %v, %v; left are %v of %v", l.unread, err, l.Hosts, given)
	}
	for name, l := range map[string]looking{"a rotation": {View: View{Hosts: given, Observed: read, Prove: plan.ProveStage}}, "none is left": {View: View{Hosts: given}}} {
		if err := l.withoutUnread(t.Context(), unread); !errors.Is(err, unread) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestQuestionsEnd: whatever else reads hosts has a limit, too.
func TestQuestionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := fixture.Hung{Memory: hosttest.NewMemory("demo-cp-1")}
		r := &View{Hosts: map[string]host.Host{"demo-cp-1": h}}
		_, diffs := r.TextDiffs(t.Context(), []plan.Change{{Host: "demo-cp-1", Kind: plan.FileChange, Name: "/a", Action: plan.Update}})
		_, joined := observe.HasJoined(t.Context(), h)
		for _, err := range []error{diffs, joined} {
			var ended *observe.HungError
			if !errors.As(err, &ended) || ended.Host != "demo-cp-1" {
				t.Errorf("the error is %v", err)
			}
		}
	})
}
