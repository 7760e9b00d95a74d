package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func TestDesiredIsPure(t *testing.T) {
	in := fixture.Input(t)
	if changes := Diff(fixture.Desired(t, in), fixture.Desired(t, in)); len(changes) != 0 {
		t.Errorf("two computations of one input differ: %v", changes)
	}
}

// What a change of the spec restarts, and what it does not.
func TestInputsFollowWhatUnitsRead(t *testing.T) {
	fixture.Alone(t)
	base := fixture.Input(t)
	tests := []struct {
		name   string
		change func(*stack.Input)
		want   []string // units that restart, on any host
	}{
		{"a flag of the API server", func(in *stack.Input) {
			in.Cluster.Spec.Kubernetes.APIServer.ExtraArgs = map[string]string{"v": "3"}
		}, []string{"kube-apiserver.service"}},
		{"the kubelet's configuration", func(in *stack.Input) {
			in.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch = map[string]any{"maxPods": 60}
		}, []string{"kubelet.service"}},
		{"how long what is signed for others lives", func(in *stack.Input) { in.Cluster.Spec.PKI.CSRValidity = "1y" }, []string{"kube-controller-manager.service"}},
		{"an identity provider, which is reloaded", func(in *stack.Input) {
			in.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT = []map[string]any{fixture.Provider}
		}, nil},
		{"pod security", func(in *stack.Input) { in.Cluster.Spec.PodSecurity.Enforce = "baseline" }, []string{"kube-apiserver.service"}},
		{"the proxy mode", func(in *stack.Input) { in.Cluster.Spec.Network.ProxyMode = "iptables" }, []string{"flanneld.service", "kube-proxy.service"}},
		{"the proxy mode of a pool", func(in *stack.Input) { in.Cluster.Spec.NodePools[0].ProxyMode = "iptables" }, []string{"flanneld.service", "kube-proxy.service"}},
		{"a new binary of etcd", func(in *stack.Input) {
			a := in.Artifacts["amd64"]["etcd"]
			a.SHA256 = "other"
			in.Artifacts["amd64"]["etcd"] = a
		}, []string{"etcd.service"}},
		{"the encryption key, which is reloaded", func(in *stack.Input) {
			in.EncryptionKeys = []stack.EncryptionKey{{Name: "key2", Key: []byte("another key, of 32 bytes as well")}}
		}, nil},
		{"a label of a node, which is the API's", func(in *stack.Input) { in.Cluster.Spec.NodePools[0].Labels = map[string]string{"a": "b"} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := base
			cluster, err := spec.Parse("cluster.yaml", []byte(fixture.Demo))
			if err != nil {
				t.Fatal(err)
			}
			in.Cluster, in.Artifacts = cluster, fixture.Sets(base)
			tt.change(&in)
			restarts := map[string]bool{}
			for _, c := range Diff(fixture.Desired(t, in), fixture.Desired(t, base)) {
				if c.Action == Restart {
					restarts[c.Name] = true
				}
			}
			if got := slices.Sorted(maps.Keys(restarts)); !slices.Equal(got, tt.want) {
				t.Errorf("restarts %v, want %v", got, tt.want)
			}
		})
	}
}

// No pod may begin before the bundle's images are there, and no registry can be asked for them.
func TestImagesComeBeforePods(t *testing.T) {
	in := fixture.Input(t)
	for _, m := range in.Machines {
		host := fixture.Desired(t, in).Hosts[m.Name]
		if unit := string(host.Files[stack.UnitDir+stack.KubeletService].Content); !strings.Contains(unit, "After=containerd.service "+stack.ImagesService) {
			t.Errorf("%s: the kubelet does not wait for the images:\n%s", m.Name, unit)
		}
		if unit := string(host.Files[stack.UnitDir+stack.ImagesService].Content); strings.Contains(unit, stack.KubeletService) {
			t.Errorf("%s: the images wait for the kubelet, which waits for them:\n%s", m.Name, unit)
		}
	}
	if step := newStep(Install, "", []Change{{Kind: ImageChange, Action: Create}}, nil); len(step.Changes) == 0 {
		t.Error("on a first start images come late")
	}
	text, err := stack.Manifests(in)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "image:") != strings.Count(string(text), "imagePullPolicy: Never") {
		t.Errorf("an image may be pulled:\n%s", text)
	}
}
