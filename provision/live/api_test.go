package live

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestChainsOfKubeconfigs: what verifies servers gets the authority with its parents, what verifies clients it alone.
func TestChainsOfKubeconfigs(t *testing.T) {
	in := fixture.Input(t)
	pki := *in.PKI
	pki.Material = maps.Clone(pki.Material)
	item := pki.Material[certs.KubernetesCA]
	parent := pki.Material[certs.EtcdCA].Cert // any certificate: nothing here verifies
	item.Cert = append(bytes.Clone(item.Cert), parent...)
	pki.Material[certs.KubernetesCA] = item
	in.PKI = &pki
	kubeconfig, err := stack.AdminKubeconfig("demo", "https://192.0.2.1:6443", in.PKI)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stack.ClusterInfo(in)
	if err != nil {
		t.Fatal(err)
	}
	chain := certificateData(t, string(kubeconfig.Reveal()))
	if chain != certificateData(t, string(info)) {
		t.Error("cluster-info and kubeconfig trust different things")
	}
	if config := APIConfig(in.PKI, stack.BalancerPort); bytes.Contains(config.CAData, parent) {
		t.Error("slipway itself trusts the parent")
	}
	if !strings.HasPrefix(chain, "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t") || len(chain) < len(item.Cert) {
		t.Errorf("the kubeconfig trusts %s", chain)
	}
}

// certificateData is the value of certificate-authority-data.
func certificateData(t *testing.T, kubeconfig string) string {
	t.Helper()
	_, rest, ok := strings.Cut(kubeconfig, "certificate-authority-data: ")
	data, _, _ := strings.Cut(rest, "\n")
	if !ok {
		t.Fatalf("no authority in %s", kubeconfig)
	}
	return data
}
