package scale_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// mostTrips is what a worker may need after the handshake: opening a session, and a command with its answer.
const mostTrips = 2

func TestPlan(t *testing.T) {
	c := newCluster(t, 20)
	p, f := c.run(t)
	for _, change := range p.Changes {
		t.Errorf("nothing differs, and it plans %v", change)
	}
	if len(p.Steps) > 0 || p.APIError != "" { // the engine has no balancer
		t.Errorf("the plan is not empty: %d steps, API %q", len(p.Steps), p.APIError)
	}
	if f.workers != mostTrips || f.control <= mostTrips {
		t.Errorf("workers needed %d round trips, want %d; control planes %d, want more", f.workers, mostTrips, f.control)
	}

	c.drift()
	p, f = c.run(t)
	var got []string
	for _, change := range p.Changes {
		if change.Cause != plan.Drift {
			t.Errorf("%v is %s, want drift", change, change.Cause)
		}
		got = append(got, change.Host+" "+string(change.Kind)+" "+change.Name)
	}
	want := []string{
		"scale-worker-1 file /etc/containerd/config.toml",
		"scale-worker-11 sysctl net.ipv4.ip_forward",
		"scale-worker-6 unit kubelet.service",
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if f.workers > mostTrips {
		t.Errorf("with drift, workers needed %d round trips", f.workers)
	}
}

// alter changes what a host reports.
func (c *cluster) alter(node string, by func(*stack.HostState)) {
	h := c.hosts[node]
	h.Files, h.Units, h.Sysctls = maps.Clone(h.Files), maps.Clone(h.Units), maps.Clone(h.Sysctls)
	by(&h)
	c.hosts[node] = h
}

// drift lets three hosts report something else than slipway put there.
func (c *cluster) drift() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alter("scale-worker-1", func(h *stack.HostState) {
		f := h.Files["/etc/containerd/config.toml"]
		f.Digest, f.Changed = h.Files[ownedFile].Digest, edited
		h.Files["/etc/containerd/config.toml"] = f
	})
	c.alter("scale-worker-6", func(h *stack.HostState) {
		u := h.Units["kubelet.service"]
		u.Active = false
		h.Units["kubelet.service"] = u
	})
	c.alter("scale-worker-11", func(h *stack.HostState) { h.Sysctls["net.ipv4.ip_forward"] = "0" })
}
