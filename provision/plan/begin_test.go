package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// What etcd reads only when it begins without data is kept up to date in its unit's file, and restarts nothing: a member that
// has data knows the others from it.
func TestAnotherControlPlaneRestartsNoMember(t *testing.T) {
	in := fixture.Input(t)
	observed := observedAs(t, in)
	more := withControlPlane(t, in)
	want := fixture.Desired(t, more)
	unit := stack.UnitDir + stack.EtcdService
	if text := string(want.Hosts["demo-cp-1"].Files[unit].Content); !strings.Contains(text, ",demo-cp-5=https://10.89.0.25:2380") {
		t.Fatalf("a member that begins without data would not know the others:\n%s", text)
	}
	var changed []string
	for _, c := range Diff(want, observed) {
		if _, there := observed.Hosts[c.Host]; !there {
			continue
		}
		if c.Kind == UnitChange {
			t.Errorf("%s: %s %s", c.Host, string(c.Action), c.Name)
		}
		if c.Name == unit {
			changed = append(changed, c.Host+" "+string(c.Action))
		}
	}
	if got := strings.Join(changed, ", "); got != "demo-cp-1 ~, demo-cp-2 ~, demo-cp-3 ~" {
		t.Errorf("etcd's unit file changes: %s", got)
	}

	// Once the files are there, nothing is left: what runs was started with the same inputs.
	now := observedAs(t, more)
	for name, h := range observed.Hosts {
		after := now.Hosts[name]
		after.Units = h.Units
		now.Hosts[name] = after
	}
	if left := Diff(want, now); len(left) > 0 {
		t.Errorf("a second time there is %v", left)
	}
}

// withControlPlane is in with two more control planes, which have machines and certificates.
func withControlPlane(t *testing.T, in stack.Input) stack.Input {
	t.Helper()
	more := fixture.Reparsed(t, in, "role: control-plane, replicas: 3", "role: control-plane, replicas: 5")
	more.Machines = slices.Clone(in.Machines)
	for i, name := range []string{"demo-cp-4", "demo-cp-5"} {
		address := netip.AddrFrom4([4]byte{10, 89, 0, byte(24 + i)})
		more.Machines = append(more.Machines, spec.Machine{Name: name, Pool: "cp", Role: spec.ControlPlane, Address: address, Artifacts: "/bundles"})
	}
	var err error
	more.PKI, _, err = certs.Ensure(t.Context(), in.PKI.Material, certs.Table(stack.CertInputs(more.Cluster, more.Machines, nil)), fixture.TestPolicy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return more
}
