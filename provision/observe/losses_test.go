package observe

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// The networks and the name are read off the very files that a host is given.
func TestInstalledNetworksAreObserved(t *testing.T) {
	in, root := fixture.Input(t), t.TempDir()
	files := fixture.Desired(t, in).Hosts["demo-cp-1"].Files
	for _, path := range []string{stack.UnitDir + "kube-apiserver.service", stack.UnitDir + "kube-controller-manager.service", stack.UnitDir + "kubelet.service", stack.KubeletFile} {
		if err := os.MkdirAll(filepath.Dir(root+path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, files[path].Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "ROOT="+root+"\n"+observeScript(stack.HostState{})).Output()
	if err != nil {
		t.Fatal(err)
	}
	state, err := parseObservation(string(out), stack.HostState{}, newVocabulary())
	n, f := in.Cluster.Spec.Network, state.Facts
	if err != nil || f.PodSubnet != n.PodSubnet || f.ServiceSubnet != n.ServiceSubnet || f.DNSDomain != n.DNSDomain || f.Node != "demo-cp-1" {
		t.Errorf("observed %q, %q, %q, %q: %v", f.PodSubnet, f.ServiceSubnet, f.DNSDomain, f.Node, err)
	}
}
