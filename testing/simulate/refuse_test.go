package simulate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// A run that is refused has changed nothing on any host.
func TestWhatIsRefusedChangesNothing(t *testing.T) {
	s := shape(t, 3, 1)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		applied(t, c, memory, s.Variants[0].computed())
		refused := func(name, says string, v Variant, wish provision.Wish) {
			t.Helper()
			r := NewRun(c, len(c.trace.Lines), memory, v)
			r.Wish = wish
			err := r.Apply(t.Context())
			if err == nil || !strings.Contains(err.Error(), says) || r.changes > 0 {
				t.Errorf("%s: %d changes, %v", name, r.changes, err)
			}
		}
		moved := &plan.Plan{Version: plan.PlanVersion, Slipway: "sim", Basis: &plan.Basis{}}
		refused("a saved plan", "the plan no longer fits; nothing was changed", s.Variants[1], provision.Wish{Saved: moved})
		refused("another's data", `--rebuild-empty names "other"`, s.Variants[1], provision.Wish{RebuildEmpty: "other"})

		if _, err := begin(c, memory, s.Variants[0], []string{certs.EncryptionKey}); err != nil {
			t.Fatal(err)
		}
		h, stage := c.hosts["sim-cp-3"], provision.Wish{Prove: plan.ProveStage}
		power(c, h, time.Time{})
		refused("a rotation without a machine", "", s.Variants[0], stage)
		power(c, h, time.Now().Add(time.Second))
		time.Sleep(time.Minute)
		c.mu.Lock()
		own := h.files[stack.ClusterFile].Content
		h.files[stack.ClusterFile].Content = []byte("another\n")
		c.mu.Unlock()
		refused("a rotation without a machine that is another cluster's", "a rotation needs every existing machine", s.Variants[0], stage)
		c.mu.Lock()
		h.files[stack.ClusterFile].Content = own
		c.mu.Unlock()
	})
}

// A run that has left a machine out says so in the end, whether or not there was something to do on the others.
func TestMachinesThatAreHeldAreNamed(t *testing.T) {
	s := shape(t, 3, 1)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		applied(t, c, memory, s.Variants[0].computed())
		power(c, c.hosts["sim-worker-1"], time.Time{})
		for i, empty := range []bool{true, false, true} {
			r := NewRun(c, len(c.trace.Lines), memory, s.Variants[min(i, 1)].computed())
			err := r.Apply(t.Context())
			var held *plan.HeldError
			if !errors.As(err, &held) || len(held.Held) != 1 || len(held.Held["sim-worker-1"]) == 0 || r.plan.Empty() != empty {
				t.Errorf("run %d, with %d steps: %v", i, len(r.plan.Steps), err)
			}
		}
	})
}

// What the provider still lacks at the end is a difference that remains.
func TestResourcesThatAreStillLacking(t *testing.T) {
	s := shape(t, 1, 0)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		applied(t, c, memory, s.Variants[0].computed())
		r := NewRun(c, len(c.trace.Lines), memory, s.Variants[0].computed())
		r.Lacks = []spec.ResourceChange{{Kind: "balancer", Name: "sim-balancer", Reason: "does not exist"}}
		err := r.Apply(t.Context())
		if err == nil || !strings.Contains(err.Error(), "differences remain:\n  balancer sim-balancer does not exist") || r.plan.Empty() || r.changes > 0 {
			t.Errorf("%d changes, %v", r.changes, err)
		}
	})
}

// power turns a machine off, or has it boot at a time.
func power(c *Cluster, h *Host, boots time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.stop(boots, "a test pulls the plug")
}
