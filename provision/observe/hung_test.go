package observe

import (
	"errors"
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
