package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/provision/spec"
)

// The golden files are the review of what lands on machines: every path, and every public configuration's text.
func TestDesiredGolden(t *testing.T) {
	in := input(t)
	state := desired(t, in)
	for _, name := range []string{"demo-cp-1", "demo-worker-1"} {
		var b strings.Builder
		host := state.Hosts[name]
		for _, p := range slices.Sorted(maps.Keys(host.Files)) {
			f := host.Files[p]
			_, _ = fmt.Fprintf(&b, "%s %s %s", f.Mode, f.Owner, p)
			switch {
			case f.Secret:
				b.WriteString(" (secret)\n")
			case strings.HasSuffix(p, ".crt"), strings.HasSuffix(p, ".pub"):
				b.WriteString("\n")
			case p == ownedFile, p == authoritiesFile:
				b.WriteString("\n")
			case f.Mode.IsRegular():
				b.WriteString("\n    " + strings.ReplaceAll(strings.TrimRight(stable(string(f.Content)), "\n"), "\n", "\n    ") + "\n")
			default:
				b.WriteString(" -> " + f.Digest + "\n")
			}
		}
		golden(t, name+".golden", b.String())
	}
}

// stable takes out what differs from PKI to PKI: inputs hash the service-account key.
func stable(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if before, _, ok := strings.Cut(line, "SLIPWAY_INPUTS="); ok {
			line = before + "SLIPWAY_INPUTS=..."
		}
		if strings.HasPrefix(line, "ExecStartPost=") {
			line = "ExecStartPost=..."
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// What is asked for is what will be compared, whatever the facts turn out to be: only a file that depends on them may
// be missing.
func TestAskedHasTheKeysOfDesired(t *testing.T) {
	in := input(t)
	asked, err := Asked(in)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range desired(t, in).Hosts {
		got := asked.Hosts[name]
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want.Files)), slices.Sorted(maps.Keys(got.Files))); diff != "" {
			t.Errorf("files of %s (-want +got):\n%s", name, diff)
		}
		if !maps.Equal(want.Sysctls, got.Sysctls) || !maps.Equal(want.Modules, got.Modules) || !maps.Equal(want.Accounts, got.Accounts) {
			t.Errorf("%s: asked about sysctls %v, modules %v, accounts %v", name, got.Sysctls, got.Modules, got.Accounts)
		}
	}
}

func TestDesiredIsPure(t *testing.T) {
	in := input(t)
	if changes := Diff(desired(t, in), desired(t, in)); len(changes) != 0 {
		t.Errorf("two computations of one input differ: %v", changes)
	}
}

func TestDesiredSecretsArePrivate(t *testing.T) {
	for host, state := range desired(t, input(t)).Hosts {
		for p, f := range state.Files {
			private := strings.HasSuffix(p, ".key") || strings.Contains(string(f.Content), "PRIVATE KEY") || strings.Contains(string(f.Content), "client-key-data") ||
				p == encryptionFile || strings.HasSuffix(p, ".conf") && strings.HasPrefix(p, kubernetesDir) || strings.HasSuffix(p, ".kubeconfig")
			if private != f.Secret || private && f.Mode != 0o600 {
				t.Errorf("%s: %s: secret=%v mode=%v, want secret=%v", host, p, f.Secret, f.Mode, private)
			}
		}
	}
}

// What a change of the spec restarts, and what it does not.
func TestInputsFollowWhatUnitsRead(t *testing.T) {
	alone(t)
	base := input(t)
	tests := []struct {
		name   string
		change func(*Input)
		want   []string // units that restart, on any host
	}{
		{"a flag of the API server", func(in *Input) {
			in.Cluster.Spec.Kubernetes.APIServer.ExtraArgs = map[string]string{"v": "3"}
		}, []string{"kube-apiserver.service"}},
		{"the kubelet's configuration", func(in *Input) {
			in.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch = map[string]any{"maxPods": 60}
		}, []string{"kubelet.service"}},
		{"how long what is signed for others lives", func(in *Input) { in.Cluster.Spec.PKI.CSRValidity = "1y" }, []string{"kube-controller-manager.service"}},
		{"an identity provider, which is reloaded", func(in *Input) {
			in.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT = []map[string]any{provider}
		}, nil},
		{"pod security", func(in *Input) { in.Cluster.Spec.PodSecurity.Enforce = "baseline" }, []string{"kube-apiserver.service"}},
		{"the proxy mode", func(in *Input) { in.Cluster.Spec.Network.ProxyMode = "iptables" }, []string{"flanneld.service", "kube-proxy.service"}},
		{"a new binary of etcd", func(in *Input) {
			a := in.Artifacts["etcd"]
			a.SHA256 = "other"
			in.Artifacts["etcd"] = a
		}, []string{"etcd.service"}},
		{"the encryption key, which is reloaded", func(in *Input) {
			in.EncryptionKeys = []EncryptionKey{{"key2", []byte("another key, of 32 bytes as well")}}
		}, nil},
		{"a label of a node, which is the API's", func(in *Input) { in.Cluster.Spec.NodePools[0].Labels = map[string]string{"a": "b"} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := base
			cluster, err := spec.Parse("cluster.yaml", []byte(demo))
			if err != nil {
				t.Fatal(err)
			}
			in.Cluster, in.Artifacts = cluster, maps.Clone(base.Artifacts)
			tt.change(&in)
			restarts := map[string]bool{}
			for _, c := range Diff(desired(t, in), desired(t, base)) {
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

func TestDesiredNamesWhatIsMissing(t *testing.T) {
	in := input(t)
	delete(in.Artifacts, "runc")
	if _, err := Desired(in); err == nil || !strings.Contains(err.Error(), `no artifact "runc"`) {
		t.Errorf("error is %v", err)
	}
}

func TestANodeWithoutAMachineIsLeftOut(t *testing.T) {
	in := input(t)
	in.Machines = in.Machines[:3]
	s := desired(t, in)
	if _, ok := s.Hosts["demo-worker-1"]; ok || len(s.Hosts) != 3 || len(s.Nodes) != 3 {
		t.Errorf("desired are %v", slices.Sorted(maps.Keys(s.Hosts)))
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"--v=2":           "--v=2",
		"--a=b c":         `"--a=b c"`,
		"--a=100%":        "--a=100%%",
		"--a=$HOME":       "--a=$$HOME",
		`--a="x"`:         `"--a=\"x\""`,
		"--a=one\ntwo":    `"--a=one\ntwo"`,
		`--a=back\slash`:  `"--a=back\\slash"`,
		"--a=b;reboot":    `"--a=b;reboot"`,
		"--map=a=b,c=d":   "--map=a=b,c=d",
		"--controllers=*": "--controllers=*",
	} {
		if got := quote(word); got != want {
			t.Errorf("quote(%q) = %s, want %s", word, got, want)
		}
	}
}

// No pod may begin before the bundle's images are there, and no registry can be asked for them.
func TestImagesComeBeforePods(t *testing.T) {
	in := input(t)
	for _, m := range in.Machines {
		host := desired(t, in).Hosts[m.Name]
		if unit := string(host.Files[unitDir+kubeletService].Content); !strings.Contains(unit, "After=containerd.service "+imagesService) {
			t.Errorf("%s: the kubelet does not wait for the images:\n%s", m.Name, unit)
		}
		if unit := string(host.Files[unitDir+imagesService].Content); strings.Contains(unit, kubeletService) {
			t.Errorf("%s: the images wait for the kubelet, which waits for them:\n%s", m.Name, unit)
		}
	}
	if step := newStep(Install, "", []Change{{Kind: ImageChange, Action: Create}}, nil); len(step.Changes) == 0 {
		t.Error("on a first start images come late")
	}
	text, err := Manifests(in)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "image:") != strings.Count(string(text), "imagePullPolicy: Never") {
		t.Errorf("an image may be pulled:\n%s", text)
	}
}
