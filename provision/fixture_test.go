package provision

import (
	"context"
	"encoding/hex"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const demo = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes:
    version: v1.36.3
    apiServer: {extraArgs: {v: "2"}}
    kubelet: {configPatch: {maxPods: 50}}
  provider: {local: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: 3}
  - {name: worker, role: worker, replicas: 1, labels: {tier: web}, taints: [{key: gpu, value: "yes", effect: NoSchedule}]}
`

// input is a 3+1 cluster whose bundle has made-up digests and whose PKI is real.
func input(t *testing.T) Input {
	t.Helper()
	cluster, err := spec.Parse("cluster.yaml", []byte(demo))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{
		Cluster: cluster, UID: "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11", Endpoint: "127.0.0.1:16443", Artifacts: map[string]Artifact{},
		EncryptionKeys: []EncryptionKey{{"key1", secret.Bytes("0123456789abcdef0123456789abcdef")}}, Facts: map[string]Facts{},
	}
	for i, n := range cluster.Nodes() {
		address := netip.AddrFrom4([4]byte{10, 89, 0, byte(11 + i)})
		in.Machines = append(in.Machines, spec.Machine{Name: n.Name, Pool: n.Pool, Role: n.Role, Address: address, Artifacts: "/bundles", SharedDisk: i == 0})
		in.Facts[n.Name] = Facts{Arch: "amd64", Systemd: true, CgroupV2: i%2 == 0, SysResource: true, ReadSearch: true, ResolvConf: "/etc/resolv.conf"}
	}
	for _, row := range programTable {
		for _, name := range row.names {
			a := Artifact{Name: name, Component: "stack", Version: "v1", SHA256: hex.EncodeToString([]byte(name)), Mounted: "d1/bin/" + name}
			if filepath.Dir(name) == "image" {
				a.Image, a.Mounted = "slipway.invalid/"+filepath.Base(name)+":v1", "d1/images/"+filepath.Base(name)+".tar"
			}
			in.Artifacts[name] = a
		}
	}
	policy := certs.Policy{CAValidity: 24 * time.Hour * 365 * 30, LeafValidity: 24 * time.Hour * 365 * 10, KeyAlgorithm: certs.ECDSAP256}
	in.PKI, _, err = certs.Ensure(context.Background(), nil, certs.Table(CertInputs(cluster, in.Machines, nil)), policy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// err is everything that is refused, as one error.
func (r Refusals) err() error {
	reasons := slices.Clone(r.Cluster)
	for host, all := range r.Hosts {
		for _, reason := range all {
			reasons = append(reasons, host+": "+reason)
		}
	}
	return refusal(nothingChanged, reasons)
}

func desired(t *testing.T, in Input) State {
	t.Helper()
	state, err := Desired(in)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file) // #nosec G304 -- a golden file of this package
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); run with -update if that is right:\n%s", file, diff)
	}
}
