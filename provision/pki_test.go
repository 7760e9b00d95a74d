package provision

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/certs"
)

// TestKeyElsewhere: without the key of the kubernetes authority nothing on a host signs, or asks for it.
func TestKeyElsewhere(t *testing.T) {
	in := input(t)
	pki := *in.PKI
	pki.Material = maps.Clone(pki.Material)
	pki.Material[certs.KubernetesCA] = certs.Item{Cert: pki.Material[certs.KubernetesCA].Cert}
	with, unit := desired(t, in), unitDir+"kube-controller-manager.service"
	in.PKI = &pki
	without := desired(t, in)
	for flag, stays := range map[string]bool{"--cluster-signing-": false, "--root-ca-file=" + certs.RootCAFile: true, "--client-ca-file=": true} {
		before, after := with.Hosts["demo-cp-1"].Files[unit].Content, without.Hosts["demo-cp-1"].Files[unit].Content
		if !bytes.Contains(before, []byte(flag)) || bytes.Contains(after, []byte(flag)) != stays {
			t.Errorf("%s with the key: %v, without: %v", flag, bytes.Contains(before, []byte(flag)), bytes.Contains(after, []byte(flag)))
		}
	}
	for _, path := range []string{pkiDir + "/ca.key", certs.SignerFile} {
		if _, ok := with.Hosts["demo-cp-1"].Files[path]; !ok {
			t.Errorf("%s is missing", path)
		}
		if _, ok := without.Hosts["demo-cp-1"].Files[path]; ok {
			t.Errorf("%s is there without the key", path)
		}
	}
}

// TestClusterInfo: what it says is of use on another machine.
func TestClusterInfo(t *testing.T) {
	in := input(t)
	for endpoint, want := range map[string]string{
		"127.0.0.1:16443": "https://10.89.0.11:6443", "k8s.example.com:6443": "https://k8s.example.com:6443", "192.0.2.1:443": "https://192.0.2.1:443",
	} {
		in.Endpoint = endpoint
		text, err := clusterInfo(in)
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.Load(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Clusters[""].Server; got != want {
			t.Errorf("with the endpoint %s it names %s, want %s", endpoint, got, want)
		}
	}
}

// TestChainsOfKubeconfigs: what verifies servers gets the authority with its parents, what verifies clients it alone.
func TestChainsOfKubeconfigs(t *testing.T) {
	in := input(t)
	pki := *in.PKI
	pki.Material = maps.Clone(pki.Material)
	item := pki.Material[certs.KubernetesCA]
	parent := pki.Material[certs.EtcdCA].Cert // any certificate: nothing here verifies
	item.Cert = append(bytes.Clone(item.Cert), parent...)
	pki.Material[certs.KubernetesCA] = item
	in.PKI = &pki
	kubeconfig, err := AdminKubeconfig("demo", "https://192.0.2.1:6443", in.PKI)
	if err != nil {
		t.Fatal(err)
	}
	info, err := clusterInfo(in)
	if err != nil {
		t.Fatal(err)
	}
	chain := certificateData(t, string(kubeconfig.Reveal()))
	if chain != certificateData(t, string(info)) {
		t.Error("cluster-info and kubeconfig trust different things")
	}
	if config := apiConfig(in.PKI, balancerPort); bytes.Contains(config.CAData, parent) {
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
