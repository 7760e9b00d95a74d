package stack_test

import (
	"bytes"
	"maps"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestKeyElsewhere: without the key of the kubernetes authority nothing on a host signs, or asks for it.
func TestKeyElsewhere(t *testing.T) {
	in := fixture.Input(t)
	pki := *in.PKI
	pki.Material = maps.Clone(pki.Material)
	pki.Material[certs.KubernetesCA] = certs.Item{Cert: pki.Material[certs.KubernetesCA].Cert}
	with, unit := fixture.Desired(t, in), stack.UnitDir+"kube-controller-manager.service"
	in.PKI = &pki
	without := fixture.Desired(t, in)
	for flag, stays := range map[string]bool{"--cluster-signing-": false, "--root-ca-file=" + certs.RootCAFile: true, "--client-ca-file=": true} {
		before, after := with.Hosts["demo-cp-1"].Files[unit].Content, without.Hosts["demo-cp-1"].Files[unit].Content
		if !bytes.Contains(before, []byte(flag)) || bytes.Contains(after, []byte(flag)) != stays {
			t.Errorf("%s with the key: %v, without: %v", flag, bytes.Contains(before, []byte(flag)), bytes.Contains(after, []byte(flag)))
		}
	}
	for _, path := range []string{stack.PKIDir + "/ca.key", certs.SignerFile} {
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
	in := fixture.Input(t)
	for endpoint, want := range map[string]string{
		"127.0.0.1:16443": "https://10.89.0.11:6443", "k8s.example.com:6443": "https://k8s.example.com:6443", "192.0.2.1:443": "https://192.0.2.1:443",
	} {
		in.Endpoint = endpoint
		text, err := stack.ClusterInfo(in)
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
