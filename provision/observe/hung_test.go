package observe

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// TestObserveEnds: a host that hangs is named in bounded time, with how far it came, and does not hide the others.
func TestObserveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fine := hosttest.NewMemory("demo-cp-2")
		fine.On("[facts]", hosttest.Answer{Stdout: "[facts]\nos=Debian\n[end]\n"})
		hosts := map[string]host.Host{
			"demo-cp-1":     fixture.Hung{Memory: hosttest.NewMemory("demo-cp-1"), Said: "[facts]\nos=Debian\n[files]\n", Complained: ""},
			"demo-cp-2":     fine,
			"demo-worker-1": fixture.Hung{Memory: hosttest.NewMemory("demo-worker-1"), Said: "", Complained: host.LockWaiting + " process 7\n" + host.LockAcquired + "\n"},
		}
		began := time.Now()
		state, err := Observe(t.Context(), hosts, stack.State{}, func(string, string) {}, time.Minute)
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

// nagging is a host that says all the time that it waits.
type nagging struct{ *hosttest.Memory }

func (h nagging) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	for ctx.Err() == nil {
		_, _ = io.WriteString(cmd.Stderr, host.LockWaiting+" process 7\n")
		time.Sleep(time.Second)
	}
	return host.Result{}, context.Cause(ctx)
}

// TestHostThatNagsEnds: a host does not put off the end of its time.
func TestHostThatNagsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		_, err := Observe(ctx, map[string]host.Host{"a": nagging{hosttest.NewMemory("a")}}, stack.State{}, func(string, string) {}, time.Minute)
		if ended := new(HungError); !errors.As(err, &ended) {
			t.Errorf("it ends with %v", err)
		}
	})
}

// cutOff is a host whose connection is lost in the middle of the first reports.
type cutOff struct {
	*hosttest.Memory
	losses int
}

func (h *cutOff) Connect(context.Context) error { return nil }

func (h *cutOff) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if h.losses--; h.losses >= 0 {
		_, _ = io.WriteString(cmd.Stdout, "[facts]\nos=Deb")
		return host.Result{}, &host.LostError{Host: h.Name(), Err: errors.New("cut")}
	}
	return h.Memory.Run(ctx, cmd)
}

// TestObserveAgain: a report that was cut off is asked for once more, from the beginning.
func TestObserveAgain(t *testing.T) {
	for losses, read := range []bool{true, true, false} {
		h := &cutOff{hosttest.NewMemory("demo-cp-1"), losses}
		h.On("[facts]", hosttest.Answer{Stdout: "[facts]\nos=Debian\n[end]\n"})
		state, err := Observe(t.Context(), map[string]host.Host{"demo-cp-1": h}, stack.State{}, nil, time.Minute)
		if (err == nil) != read || read && state.Hosts["demo-cp-1"].Facts.OS != "Debian" || !read && !errors.As(err, new(*host.LostError)) {
			t.Errorf("after %d losses: %+v, %v", losses, state.Hosts, err)
		}
	}
}
