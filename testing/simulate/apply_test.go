package simulate

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

func shape(t testing.TB, cps, workers int) *Shape {
	t.Helper()
	s, err := NewShape(cps, workers)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// onCluster is a test on a cluster in a bubble of its own. In the end no invariant is broken.
func onCluster(t *testing.T, s *Shape, do func(t *testing.T, c *Cluster, memory *state.Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(s, 1)
		memory, err := NewMemory(s)
		if err != nil {
			t.Fatal(err)
		}
		do(t, c, memory)
		c.End()
		for _, why := range c.broken {
			t.Error(why)
		}
	})
}

// applied is a run that ends well.
func applied(t *testing.T, c *Cluster, memory *state.Memory, v Variant) *Run {
	t.Helper()
	r := NewRun(c, len(c.trace.Lines), memory, v)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// idle is a run that finds nothing to do, and changes nothing.
func idle(t *testing.T, c *Cluster, memory *state.Memory, v Variant) {
	t.Helper()
	before := c.State()
	if r := applied(t, c, memory, v); !r.plan.Empty() || r.changes > 0 {
		t.Errorf("with nothing to do it plans %v, and changes %d times", r.plan.Changes, r.changes)
	}
	if c.State() != before {
		t.Error("a run without a plan has changed something")
	}
}

// recorded is what the state knows of a cluster that has been up.
func recorded(t *testing.T, memory *state.Memory) (up *plan.Up) {
	t.Helper()
	if err := edit(memory, func(ctx context.Context, store *state.Store) error {
		id, err := identity(ctx, store)
		up = id.Up
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return up
}

func TestApplyTwice(t *testing.T) {
	for _, size := range [][2]int{{1, 0}, {3, 1}, {5, 2}} {
		s := shape(t, size[0], size[1])
		onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
			r := applied(t, c, memory, s.Variants[0].computed())
			if r.plan.Alive || len(r.plan.Steps) < 5*size[0] {
				t.Errorf("a first apply of %v: alive %t, %d steps", size, r.plan.Alive, len(r.plan.Steps))
			}
			if up := recorded(t, memory); up == nil || len(up.ControlPlanes) != size[0] {
				t.Errorf("the state has recorded %+v", up)
			}
			idle(t, c, memory, s.Variants[0].computed())
			for _, h := range c.order {
				if why := c.well(h); why != "" {
					t.Error(why)
				}
			}
			// A living cluster takes another bundle, one control plane after another.
			if r := applied(t, c, memory, s.Variants[1].computed()); !r.plan.Alive {
				t.Error("a cluster that is up was not taken for a living one")
			}
			idle(t, c, memory, s.Variants[1].computed())
		})
	}
}

// What somebody does to hosts and objects is mended by the next apply, and is all that it plans.
func TestDriftIsMended(t *testing.T) {
	s := shape(t, 3, 1)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		applied(t, c, memory, s.Variants[0])
		h := c.hosts["sim-cp-2"]
		for name, drift := range map[string]func(){
			"/etc/containerd/config.toml": func() { h.files["/etc/containerd/config.toml"].digest = "edited" },
			stack.KubeletFile:             func() { delete(h.files, stack.KubeletFile) },
			"kube-scheduler.service":      func() { h.kill("kube-scheduler.service") },
			stack.EtcdService:             func() { h.kill(stack.EtcdService) },
			"net.ipv4.ip_forward":         func() { h.sysctls["net.ipv4.ip_forward"] = "0" },
			"ConfigMap kube-system/coredns": func() {
				c.objects["ConfigMap kube-system/coredns"] += "edited"
			},
		} {
			c.mu.Lock()
			drift()
			c.mu.Unlock()
			r := applied(t, c, memory, s.Variants[0])
			found := false
			for _, change := range r.plan.Changes {
				found = found || change.Name == name && change.Cause == plan.Drift
				if change.Host != "" && change.Host != h.name {
					t.Errorf("%s: it plans %v, too", name, change)
				}
			}
			if !found {
				t.Errorf("%s: it plans %v", name, r.plan.Changes)
			}
			idle(t, c, memory, s.Variants[0])
		}
	})
}

// Killed before any of its steps, or while one is at work, a run is ended by the next.
func TestResumeAfterAKill(t *testing.T) {
	s := shape(t, 3, 1)
	for _, tt := range []struct {
		name   string
		before bool // the cluster is up, and is given another bundle
		after  time.Duration
	}{{"first apply, before a step", false, 0}, {"first apply, within a step", false, 70 * time.Millisecond}, {"another bundle, before a step", true, 0}, {"another bundle, within a step", true, 90 * time.Millisecond}} {
		t.Run(tt.name, func(t *testing.T) {
			for at, ended := 0, false; !ended; at++ {
				onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
					v := s.Variants[0]
					if tt.before {
						applied(t, c, memory, v)
						v = s.Variants[1]
					}
					r, begun := NewRun(c, 100, memory, v), 0
					r.AtStep = func(string) {
						c.mu.Lock()
						begun++
						now := begun == at+1
						c.mu.Unlock()
						if now {
							c.busy.Go(func() {
								time.Sleep(tt.after)
								r.Kill()
							})
						}
					}
					err := r.Apply(t.Context())
					ended = err == nil
					applied(t, c, memory, v)
					idle(t, c, memory, v)
				})
				if at > 200 {
					t.Fatal("it has no end")
				}
			}
		})
	}
}

// Certificates are renewed on a living cluster, and nothing restarts for it.
func TestRenew(t *testing.T) {
	s := shape(t, 3, 1)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		v := s.Variants[0].computed()
		applied(t, c, memory, v)
		began := map[string]time.Time{}
		for _, h := range c.order {
			for name, u := range h.units {
				began[h.name+name] = u.since
			}
		}
		time.Sleep(time.Hour)
		r := NewRun(c, 200, memory, v)
		r.Renew, r.Prove, r.NewKeys = []string{"*"}, plan.ProveClients, true
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		served := 0
		for _, step := range r.plan.Steps {
			if step.Verb == plan.AwaitServed {
				served++
			}
		}
		if served != len(c.order) {
			t.Errorf("of %d hosts %d were waited for to show their certificates", len(c.order), served)
		}
		for _, h := range c.order {
			for name, u := range h.units {
				if began[h.name+name] != u.since {
					t.Errorf("%s of %s was restarted", name, h.name)
				}
			}
		}
		idle(t, c, memory, v)
	})
}

// The state of the operator keeps others out for as long as a run is at work, and not after it was killed.
func TestOneOperatorAtATime(t *testing.T) {
	s := shape(t, 3, 0)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		first, done := NewRun(c, 1, memory, s.Variants[0]), make(chan error)
		go func() { done <- first.Apply(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		second := NewRun(c, 2, memory, s.Variants[0])
		if err := second.Apply(t.Context()); err == nil || second.changes > 0 {
			t.Errorf("a second run began beside the first: %v, %d changes", err, second.changes)
		}
		first.Kill()
		if err := <-done; err == nil {
			t.Error("a run that was killed ended well")
		}
		applied(t, c, memory, s.Variants[0])
	})
	if NewCluster(s, 1).leaked("a "+s.secrets[0]+" b") == "" {
		t.Error("a key in a text is not found")
	}
}
