package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// hung is a host on which a script says what it says and then never ends.
type hung struct {
	*hosttest.Memory
	stdout, stderr string
}

func (h hung) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if cmd.Stdout != nil {
		_, _ = io.WriteString(cmd.Stdout, h.stdout)
	}
	if cmd.Stderr != nil {
		_, _ = io.WriteString(cmd.Stderr, h.stderr)
	}
	<-ctx.Done()
	return host.Result{}, fmt.Errorf("%s: %w", h.Name(), context.Cause(ctx))
}

// TestObserveEnds: a host that hangs is named in bounded time, with how far it came, and does not hide the others.
func TestObserveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fine := hosttest.NewMemory("demo-cp-2")
		fine.On("[facts]", hosttest.Answer{Stdout: "[facts]\nos=Debian\n[end]\n"})
		hosts := map[string]host.Host{
			"demo-cp-1":     hung{hosttest.NewMemory("demo-cp-1"), "[facts]\nos=Debian\n[files]\n", ""},
			"demo-cp-2":     fine,
			"demo-worker-1": hung{hosttest.NewMemory("demo-worker-1"), "", host.Waits + " process 7\n" + host.Turn + "\n"},
		}
		began := time.Now()
		state, err := Observe(t.Context(), hosts, State{}, func(string, string) {}, time.Minute)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %s", took)
		}
		var unread *UnreadError
		if !errors.As(err, &unread) || len(unread.Hosts) != 2 {
			t.Fatalf("the error is %v", err)
		}
		for name, section := range map[string]string{"demo-cp-1": "[files]", "demo-worker-1": ""} {
			var ended *HungError
			if err := unread.Hosts[name]; !errors.As(err, &ended) || ended.Host != name || ended.Section != section || ended.Limit != time.Minute {
				t.Errorf("%s: %#v", name, err)
			}
		}
		if len(state.Hosts) != 1 || state.Hosts["demo-cp-2"].Facts.OS != "Debian" {
			t.Errorf("of the other it has %+v", state.Hosts)
		}
	})
}

// TestUnreadHostsAreHeld: the others go on without them, but for a rotation, and where nothing is left.
func TestUnreadHostsAreHeld(t *testing.T) {
	unread := &UnreadError{Hosts: map[string]error{"demo-cp-2": &HungError{Host: "demo-cp-2"}}}
	r := &Runner{Hosts: map[string]host.Host{"demo-cp-1": nil, "demo-cp-2": nil}, Observed: State{Hosts: map[string]HostState{"demo-cp-1": {}}}}
	given := r.Hosts
	if held, err := r.withoutUnread(t.Context(), unread); err != nil || len(held["demo-cp-2"]) != 1 || len(r.Hosts) != 1 || len(given) != 2 {
		t.Errorf("held %v, %v; left are %v of %v", held, err, r.Hosts, given)
	}
	proves := r.Prove
	r.Prove = ProveStage
	if _, err := r.withoutUnread(t.Context(), unread); !errors.Is(err, unread) {
		t.Errorf("a rotation: %v", err)
	}
	r.Prove, r.Observed.Hosts = proves, nil
	if _, err := r.withoutUnread(t.Context(), unread); !errors.Is(err, unread) {
		t.Errorf("none is left: %v", err)
	}
}

// TestQuestionsEnd: whatever else reads hosts has a limit, too.
func TestQuestionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hung{Memory: hosttest.NewMemory("demo-cp-1")}
		r := &Runner{Hosts: map[string]host.Host{"demo-cp-1": h}}
		_, diffs := r.TextDiffs(t.Context(), []Change{{Host: "demo-cp-1", Kind: FileChange, Name: "/a", Action: Update}})
		_, joined := HasJoined(t.Context(), h)
		for _, err := range []error{diffs, joined} {
			var ended *HungError
			if !errors.As(err, &ended) || ended.Host != "demo-cp-1" {
				t.Errorf("the error is %v", err)
			}
		}
	})
}
