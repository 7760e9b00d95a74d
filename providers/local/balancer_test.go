package local

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision/spec"
)

func TestPublish(t *testing.T) {
	p := &Local{cluster: "demo", o: Options{StateDir: t.TempDir()}}
	infra := &spec.Infrastructure{
		Machines: []spec.Machine{
			{Name: "demo-cp-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("10.89.0.11")},
			{Name: "demo-cp-2", Role: spec.ControlPlane, Address: netip.MustParseAddr("10.89.0.12")},
			{Name: "demo-worker-1", Role: spec.Worker, Address: netip.MustParseAddr("10.89.0.13")},
		},
		Surplus: []spec.Machine{{Name: "demo-old-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("10.89.0.14")}},
	}
	if err := p.Publish(infra, []byte("the CA\n")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"ca.crt": "the CA\n",
		"balancer.json": `{
  "listen": [
    "0.0.0.0:6443"
  ],
  "backends": [
    "10.89.0.11:6443",
    "10.89.0.12:6443"
  ],
  "caFile": "/etc/slipway/ca.crt"
}
`,
	} {
		if got, err := os.ReadFile(filepath.Join(p.balancerDir(), name)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if entries, _ := os.ReadDir(p.balancerDir()); len(entries) != 2 {
		t.Errorf("%d files in the balancer's directory, want 2", len(entries))
	}
}
