package plan

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// before is the record of an apply of in, as it comes back from the state store.
func before(t *testing.T, in stack.Input) Before {
	t.Helper()
	applied, err := NewApplied(in, "v1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(applied)
	if err != nil {
		t.Fatal(err)
	}
	var read Applied
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return Before{Applied: &read, Slipway: "v1"}
}

// explained gives the reasons, by "host kind name", of what differs between what was and what is wanted.
func explained(t *testing.T, was, is stack.Input, b Before) map[string]string {
	t.Helper()
	observed := fixture.Desired(t, was)
	for name, h := range observed.Hosts {
		h.Owned = map[string]string{}
		for p, f := range h.Files {
			h.Owned[p] = f.Digest
		}
		observed.Hosts[name] = h
	}
	for name, n := range observed.Nodes {
		n.RecordedLabels, n.RecordedTaints = n.Labels, n.Taints
		observed.Nodes[name] = n
	}
	changes := Diff(fixture.Desired(t, is), observed)
	Explain(changes, CausesOf(is, b, stack.Desired))
	reasons := map[string]string{}
	for _, c := range changes {
		if !c.Bookkeeping() {
			reasons[c.Host+" "+string(c.Kind)+" "+c.Name] = c.Reason
		}
	}
	return reasons
}

func TestCausesAreFieldsOfTheSpec(t *testing.T) {
	fixture.Alone(t)
	was := fixture.Input(t)
	tests := []struct {
		name, old, new string
		want           map[string]string
	}{
		{
			"a flag of the API server", `{v: "2"}`, `{v: "3"}`,
			map[string]string{
				"demo-cp-1 file /etc/systemd/system/kube-apiserver.service": "spec.kubernetes.apiServer.extraArgs[v] changed",
				"demo-cp-1 unit kube-apiserver.service":                     "spec.kubernetes.apiServer.extraArgs[v] changed",
			},
		},
		{
			"two fields that meet in one unit", `kubelet: {configPatch: {maxPods: 50}}`, `kubelet: {configPatch: {maxPods: 60}, extraArgs: {v: "4"}}`,
			map[string]string{
				"demo-worker-1 file /var/lib/kubelet/config.yaml": "spec.kubernetes.kubelet.configPatch.maxPods changed",
				"demo-worker-1 unit kubelet.service":              "spec.kubernetes.kubelet.configPatch.maxPods changed, spec.kubernetes.kubelet.extraArgs changed",
			},
		},
		{
			"a label", `labels: {tier: web}`, `labels: {tier: db, zone: a}`,
			map[string]string{
				"demo-worker-1 label tier": "spec.nodePools[worker].labels[tier] changed",
				"demo-worker-1 label zone": "spec.nodePools[worker].labels[zone] changed",
			},
		},
		{
			"fields that are valid together only", "provider: {local: {}}", "provider: {local: {}}\n  network: {plugin: none}",
			map[string]string{
				"demo-worker-1 file /etc/cni/net.d/10-flannel.conflist": "spec.network.plugin changed",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := explained(t, was, fixture.Reparsed(t, was, tt.old, tt.new), before(t, was))
			for what, reason := range tt.want {
				if !strings.Contains(got[what], reason) {
					t.Errorf("the reason for %s is %q, want %q", what, got[what], reason)
				}
			}
			for what, reason := range got {
				if !strings.HasPrefix(reason, "spec.") {
					t.Errorf("the reason for %s is %q", what, reason)
				}
			}
		})
	}
}

func TestCausesAreCertificatesAndArtifacts(t *testing.T) {
	was := fixture.Input(t)
	is := was
	is.Artifacts = fixture.Sets(was)
	a := is.Artifacts["amd64"]["etcd"]
	a.SHA256, a.Mounted = "other", "d2/bin/etcd"
	is.Artifacts["amd64"]["etcd"] = a
	got := explained(t, was, is, before(t, was))
	for what, reason := range got {
		if reason != "the bundle changed" {
			t.Errorf("the reason for %s is %q", what, reason)
		}
	}
	if len(got) == 0 {
		t.Error("a new etcd changes nothing")
	}

	is = was
	policy := certs.Policy{CAValidity: 24 * time.Hour * 365 * 30, LeafValidity: 24 * time.Hour * 365 * 10, KeyAlgorithm: certs.ECDSAP256}
	pki, issued, err := certs.Ensure(t.Context(), was.PKI.Material, certs.Table(stack.CertInputs(was.Cluster, was.Machines, []string{"api.example.com"})), policy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	is.PKI = pki
	b := before(t, was)
	b.PKI, b.Issued = was.PKI, issued
	got = explained(t, was, is, b)
	want := []string{
		"demo-cp-1 file /etc/kubernetes/pki/apiserver.crt", "demo-cp-1 file /etc/kubernetes/pki/apiserver.key",
		"demo-cp-2 file /etc/kubernetes/pki/apiserver.crt", "demo-cp-2 file /etc/kubernetes/pki/apiserver.key",
		"demo-cp-3 file /etc/kubernetes/pki/apiserver.crt", "demo-cp-3 file /etc/kubernetes/pki/apiserver.key",
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("changed are %q", keys)
	}
	for what, reason := range got {
		if reason != "certificate apiserver: SANs changed: +api.example.com" {
			t.Errorf("the reason for %s is %q", what, reason)
		}
	}
}

// What an apply was killed before it got to is not blamed on a field.
func TestCausesOfAnInterruptedApply(t *testing.T) {
	was := fixture.Input(t)
	is := fixture.Reparsed(t, was, `{v: "2"}`, `{v: "3"}`)
	got := explained(t, was, is, before(t, is))["demo-cp-3 unit kube-apiserver.service"]
	if got != "was started with an earlier configuration; an earlier apply ended before it" {
		t.Errorf("the reason is %q", got)
	}
}

// What only another version of slipway asks for is said to be its doing.
func TestCausesOfAnotherSlipway(t *testing.T) {
	was := fixture.Input(t)
	b := before(t, was)
	b.Slipway = "v2"
	changes := []Change{{Host: "demo-cp-1", Kind: FileChange, Name: "/etc/crictl.yaml", Action: Update, Cause: Wanted}}
	Explain(changes, CausesOf(was, b, stack.Desired))
	if changes[0].Reason != "slipway v2 requires it, v1 did not" {
		t.Errorf("the reason is %q", changes[0].Reason)
	}
}

func TestCausesWithoutARecord(t *testing.T) {
	was := fixture.Input(t)
	for what, reason := range explained(t, was, fixture.Reparsed(t, was, `{v: "2"}`, `{v: "3"}`), Before{}) {
		if reason != "desired content changed" && reason != "was started with an earlier configuration" {
			t.Errorf("the reason for %s is %q", what, reason)
		}
	}
}

// Every spec that can be applied can be read again from the record of it.
func TestAppliedSpecsAreReadAgain(t *testing.T) {
	in := fixture.Input(t)
	for _, more := range []string{
		"", "  network: {plugin: none}\n", "  pki: {caValidity: 1y30d, leafValidity: 90d}\n", "  allowCgroupV1: false\n",
		"  etcd: {extraArgs: {quota-backend-bytes: \"8589934592\"}}\n",
	} {
		cluster, err := spec.Parse("cluster.yaml", []byte(fixture.Demo+more))
		if err != nil {
			t.Fatal(err)
		}
		in.Cluster = cluster
		base := in
		applied := before(t, in).Applied
		if factors, err := applied.factors(in, &base); err != nil || len(factors) > 0 {
			t.Errorf("with %q: %d factors, error %v", more, len(factors), err)
		}
		var tree any
		if err := errors.Join(json.Unmarshal(applied.Spec, &tree), applied.setSpec(&base, in, tree)); err != nil {
			t.Errorf("with %q: %v", more, err)
		}
	}
}

func TestCausesOfEncryptionKeys(t *testing.T) {
	was := fixture.Input(t)
	is := was
	is.EncryptionKeys = append([]stack.EncryptionKey{{Name: "key2", Key: []byte("another key, of 32 bytes as well")}}, was.EncryptionKeys...)
	b := before(t, was)
	b.EncryptionKeys = was.EncryptionKeys
	reasons := explained(t, was, is, b)
	const changed = "the keys for Secrets at rest changed"
	if got := reasons["demo-cp-1 file "+stack.EncryptionFile]; got != changed || len(reasons) != 6 {
		t.Errorf("reasons are %v", reasons)
	}
	b.EncryptionKeys = is.EncryptionKeys // they were given to API servers before, and something else is the matter
	for at, got := range explained(t, was, is, b) {
		if strings.Contains(got, changed) {
			t.Errorf("%s: %s", at, got)
		}
	}
}
