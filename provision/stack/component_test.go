package stack_test

import (
	"fmt"
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

// extraArgs is where a spec has flags for a unit.
var extraArgs = map[string]string{
	stack.APIServerService:            "kubernetes: {version: v1.36.3, apiServer: {extraArgs: {%s: x}}}",
	"kube-controller-manager.service": "kubernetes: {version: v1.36.3, controllerManager: {extraArgs: {%s: x}}}",
	"kube-scheduler.service":          "kubernetes: {version: v1.36.3, scheduler: {extraArgs: {%s: x}}}",
	stack.KubeletService:              "kubernetes: {version: v1.36.3, kubelet: {extraArgs: {%s: x}}}",
	"kube-proxy.service":              "kubernetes: {version: v1.36.3, proxy: {extraArgs: {%s: x}}}",
	stack.EtcdService:                 "kubernetes: {version: v1.36.3}\n  etcd: {extraArgs: {%s: x}}",
}

// A spec cannot name another file for one that slipway places and renews, nor another cluster of etcd: package spec refuses
// what the components here set.
func TestOwnedFlags(t *testing.T) {
	host := fixture.Desired(t, fixture.Input(t)).Hosts["demo-cp-1"]
	// Whoever names another audit policy than the one that slipway places has put it there.
	free := []string{"audit-policy-file"}
	for unit, field := range extraArgs {
		owned := 0
		for _, line := range strings.Split(string(host.Files[stack.UnitDir+unit].Content), "\n") {
			flag, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), ` \`), "=")
			name, ok := strings.CutPrefix(flag, "--")
			_, placed := host.Files[value]
			if !ok || slices.Contains(free, name) || !placed && !strings.HasPrefix(name, "initial-") {
				continue
			}
			text := "apiVersion: slipway.dev/v1alpha1\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  " + fmt.Sprintf(field, name) +
				"\n  provider: {local: {}}\n  nodePools:\n  - {name: cp, role: control-plane, replicas: 1}\n"
			if _, err := spec.Parse("cluster.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: a spec may set --%s, which is %s: %v", unit, name, value, err)
			}
			owned++
		}
		if owned == 0 {
			t.Errorf("%s has no flag that names a file of slipway's", unit)
		}
	}
}

// All that a component refers to is on the nodes that have it, whichever the network plugin is.
func TestComponentsAreWhole(t *testing.T) {
	for _, plugin := range []string{"flannel", "none"} {
		in := withPlugin(t, plugin)
		state := fixture.Desired(t, in)
		for _, n := range in.Nodes() {
			files := state.Hosts[n.Name].Files
			for _, c := range stack.Components {
				if !c.On(n) {
					continue
				}
				var paths []string
				for _, k := range c.Kubeconfigs {
					paths = append(paths, stack.KubernetesDir+"/"+k.Name, k.Cert+".crt", k.Cert+".key")
				}
				for _, client := range c.Clients {
					paths = append(paths, client.Cert)
				}
				for _, e := range c.Endpoints {
					if e.Cert != "" && e.On(certs.Node{ControlPlane: n.ControlPlane()}) {
						paths = append(paths, e.Cert)
					}
				}
				for _, p := range paths {
					if _, ok := files[p]; !ok {
						t.Errorf("plugin %s: %s has %s, and lacks %s", plugin, n.Name, c.Name, p)
					}
				}
			}
		}
	}
}

// Only nodes that run flanneld are given its certificate, and nothing else differs for the others.
func TestFlannelCertificateIsWhereFlannelIs(t *testing.T) {
	const pair = "/etc/kubernetes/pki/flannel.crt /etc/kubernetes/pki/flannel.key"
	with, without := withPlugin(t, "flannel"), withPlugin(t, "none")
	pki := func(in stack.Input, host string) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(fixture.Desired(t, in).Hosts[host].Files)), func(p string) bool { return !strings.Contains(p, "/pki/") })
	}
	for _, host := range []string{"demo-cp-1", "demo-worker-1"} {
		flannel := slices.DeleteFunc(pki(with, host), func(p string) bool { return slices.Contains(pki(without, host), p) })
		if got := strings.Join(flannel, " "); got != pair {
			t.Errorf("%s: only with flannel there are %q, want %q", host, got, pair)
		}
	}
	for name := range without.PKI.Material {
		if strings.HasPrefix(name, "flannel@") {
			t.Errorf("%s is issued for nobody", name)
		}
	}
}

// withPlugin is Input with another network plugin and the PKI that goes with it.
func withPlugin(t *testing.T, plugin string) stack.Input {
	t.Helper()
	in := fixture.WithPlugin(t, fixture.Input(t), plugin)
	requests := certs.Table(stack.CertInputs(in.Cluster, in.Machines, nil))
	pki, _, err := certs.Ensure(t.Context(), in.PKI.Material, requests, fixture.TestPolicy, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	in.PKI = pki
	return in
}
