package simulate

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// kubelet is where the kubelet's program on a host comes from.
func kubelet(c *Cluster, host string) string {
	if f := c.hosts[host].files[stack.ProgramDir+"stack/v1/bin/kubelet"]; f != nil {
		return f.digest
	}
	return ""
}

// TestTwoArchitectures: every machine gets the programs of its own one, from the first apply on, when
// nothing is known of them.
func TestTwoArchitectures(t *testing.T) {
	s := shape(t, 3, 2)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		applied(t, c, memory, s.Variants[0].computed())
		for host, want := range map[string]string{
			"sim-cp-1": "/bundles/v1/bin/kubelet", "sim-worker-1": "/bundles/v1/bin/kubelet", "sim-worker-2": "/bundles/v1-arm64/bin/kubelet",
		} {
			if got := kubelet(c, host); got != want {
				t.Errorf("%s has the kubelet %s, not %s", host, got, want)
			}
		}
		r := applied(t, c, memory, s.Variants[0].computed())
		for _, m := range r.session.Found().Machines {
			want := map[bool]string{true: "arm64", false: "amd64"}[m.Name == s.another()]
			if m.Arch != want {
				t.Errorf("the state says that %s is %q", m.Name, m.Arch)
			}
		}
		idle(t, c, memory, s.Variants[0].computed())
	})
}

// TestNoBundleForAnArchitecture: machines of the other one become a cluster, and those without a bundle
// are held, until there is one.
func TestNoBundleForAnArchitecture(t *testing.T) {
	s := shape(t, 1, 2)
	lacks := s.Variants[0].computed()
	lacks.Input.Artifacts = maps.Clone(lacks.Input.Artifacts)
	delete(lacks.Input.Artifacts, "arm64")
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		r := NewRun(c, len(c.trace.Lines), memory, lacks)
		err := r.Apply(t.Context())
		var held *plan.HeldError
		if !errors.As(err, &held) || len(held.Held) != 1 {
			t.Fatalf("the error is %v", err)
		}
		why := strings.Join(held.Held[s.another()], "; ")
		if want := "there is no bundle for its processor, arm64: no bundle can be made for arm64. `slipway bundle build --arch arm64` makes one"; !strings.Contains(why, want) {
			t.Errorf("%s is held since %q", s.another(), why)
		}
		if got := len(c.hosts[s.another()].files); got != 0 {
			t.Errorf("it was given %d files", got)
		}
		if kubelet(c, "sim-worker-1") == "" {
			t.Error("the other worker has no kubelet")
		}
		applied(t, c, memory, s.Variants[0].computed())
		idle(t, c, memory, s.Variants[0].computed())
	})
}
