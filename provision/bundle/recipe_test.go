package bundle

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func allRecipes(t *testing.T) []recipe {
	t.Helper()
	var rows []recipe
	for _, version := range Versions() {
		more, err := recipesFor(version)
		must(t, err)
		rows = append(rows, more...)
	}
	return rows
}

// No registry can have the names of our images: what lacks one can ask nobody for it.
func TestImagesCannotBePulled(t *testing.T) {
	for _, r := range allRecipes(t) {
		if r.Image == nil {
			continue
		}
		registry, _, _ := strings.Cut(r.Image.Ref, "/")
		if !strings.HasSuffix(registry, ".invalid") {
			t.Errorf("%s: %s could be somebody's", r.Component, r.Image.Ref)
		}
	}
}

// The wrapper modules and the table say the same: which packages, at which version.
func TestRecipesMatchTheirModules(t *testing.T) {
	tools := regexp.MustCompile(`(?m)^(?:tool )?\t?([\w./-]+)$`)
	used := map[string]bool{}
	for _, r := range allRecipes(t) {
		mod, sum, err := r.wrapper()
		must(t, err)
		used["recipes/"+r.module()+".mod"] = true
		if len(sum) == 0 {
			t.Errorf("%s: empty go.sum", r.Component)
		}
		if r.C != nil {
			if !strings.Contains(string(mod), "\t"+r.C.Module+" v") {
				t.Errorf("%s: go.mod does not require %s", r.Component, r.C.Module)
			}
			continue
		}
		var declared, wanted []string
		block := string(mod[strings.Index(string(mod), "tool "):])
		if end := strings.Index(block, "\n)"); strings.HasPrefix(block, "tool (") {
			block = block[:end]
		} else {
			block, _, _ = strings.Cut(block, "\n")
		}
		for _, match := range tools.FindAllStringSubmatch(block, -1) {
			declared = append(declared, match[1])
		}
		for _, p := range r.Packages {
			wanted = append(wanted, p.Package)
			// The module is the longest required path that the package begins with; its version is the recipe's.
			if !strings.Contains(string(mod), " "+r.Version+" // indirect") {
				t.Errorf("%s: go.mod requires nothing at %s", r.Component, r.Version)
			}
		}
		slices.Sort(wanted)
		if !slices.Equal(declared, wanted) {
			t.Errorf("%s: go.mod has the tools %q, the table %q", r.Component, declared, wanted)
		}
	}
	all, err := fs.Glob(recipes, "recipes/*.mod")
	must(t, err)
	for _, name := range all {
		if !used[name] {
			t.Errorf("no recipe uses %s", name)
		}
	}
}

// A bundle cannot hold two files of one name, and hosts look artifacts up by name.
func TestNamesAreUnique(t *testing.T) {
	for _, version := range Versions() {
		rows, err := recipesFor(version)
		must(t, err)
		seen := map[string]string{}
		for _, r := range rows {
			for _, name := range r.names() {
				if r.Image != nil {
					name = r.imageFile()
				}
				if seen[name] != "" {
					t.Errorf("%s: both %s and %s have a %s", version, seen[name], r.Component, name)
				}
				seen[name] = r.Component
			}
		}
		for _, name := range []string{
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kubeadm",
			"etcd", "etcdctl", "etcdutl", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "bridge", "loopback",
			"host-local", "portmap", "flannel", "flanneld", "crictl", "pause.tar", "coredns.tar",
		} {
			if seen[name] == "" {
				t.Errorf("%s: no %s", version, name)
			}
		}
	}
}

func TestLinkerFlags(t *testing.T) {
	rows, err := recipesFor("v1.36.3")
	must(t, err)
	got := map[string]string{}
	for _, r := range rows {
		got[r.Component] = r.ldflags()
	}
	for component, want := range map[string]string{
		"kubernetes": "-s -w -buildid= -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 " +
			"-X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean " +
			"-X k8s.io/client-go/pkg/version.gitVersion=v1.36.3 -X k8s.io/client-go/pkg/version.gitMajor=1 " +
			"-X k8s.io/client-go/pkg/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitTreeState=clean",
		"etcd": "-s -w -buildid=",
		"runc": "-s -w -buildid= -extldflags -static -X main.version=1.5.2",
	} {
		if got[component] != want {
			t.Errorf("%s: %s\nwant %s", component, got[component], want)
		}
	}
}

func TestOutputNames(t *testing.T) {
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet":  "kubelet",
		"go.etcd.io/etcd/server/v3":      "server",
		"go.etcd.io/etcd/etcdctl/v3":     "etcdctl",
		"github.com/coredns/coredns":     "coredns",
		"example.com/x/containerd/v2/vm": "vm",
	} {
		if got := output(pkg); got != want {
			t.Errorf("%s: %s, want %s", pkg, got, want)
		}
	}
}

func TestUnknownRelease(t *testing.T) {
	_, err := recipesFor("v1.2.3")
	wantError(t, err, `"v1.2.3"`, "v1.36.3")
}

// Every component can be had from upstream too, or is made here for want of that.
func TestUpstreams(t *testing.T) {
	want := map[string][]string{
		"kubernetes": {"release/v1.36.3/bin/linux/amd64/kubelet", "release/v1.36.3/bin/linux/amd64/kubelet.sha256"},
		"etcd": {
			"etcd-io/etcd/releases/download/v3.6.16/etcd-v3.6.16-linux-amd64.tar.gz",
			"etcd-io/etcd/releases/download/v3.6.16/SHA256SUMS", "etcd-v3.6.16-linux-amd64/etcdutl",
		},
		"containerd": {
			"containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-amd64.tar.gz",
			"containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-amd64.tar.gz.sha256sum",
			"bin/containerd-shim-runc-v2",
		},
		"runc": {
			"opencontainers/runc/releases/download/v1.5.2/runc.amd64",
			"opencontainers/runc/releases/download/v1.5.2/runc.sha256sum",
		},
		"coredns": {
			"coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_amd64.tgz",
			"coredns/coredns/releases/download/v1.15.0/coredns_1.15.0_linux_amd64.tgz.sha256", "coredns",
		},
		"flannel": {
			"flannel-io/flannel/releases/download/v0.28.4/flanneld-amd64",
			"https://api.github.com/repos/flannel-io/flannel/releases/tags/v0.28.4",
		},
		"cni-plugin-flannel": {
			"flannel-io/cni-plugin/releases/download/v1.8.0-flannel1/cni-plugin-flannel-linux-amd64-v1.8.0-flannel1.tgz", "flannel-amd64",
		},
		"cni-plugins": {
			"containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz.sha256", "bridge",
		},
		"cri-tools": {"kubernetes-sigs/cri-tools/releases/download/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz", "crictl"},
	}
	rows, err := recipesFor("v1.36.3")
	must(t, err)
	for _, r := range rows {
		if r.C != nil {
			continue
		}
		var all []string
		for _, file := range r.remotes("amd64") {
			all = append(all, file.path, file.digest, file.release)
			for member, name := range file.programs {
				all = append(all, member)
				if !slices.Contains(r.names(), name) {
					t.Errorf("%s: unpacks %s, which the recipe does not name", r.Component, name)
				}
			}
			if strings.ContainsAny(strings.Join(all, ""), "{}") || path.IsAbs(file.path) {
				t.Errorf("%s: %q", r.Component, all)
			}
		}
		if want[r.Component] == nil {
			t.Errorf("%s: nothing expected", r.Component)
		}
		for _, one := range want[r.Component] {
			if !slices.Contains(all, one) {
				t.Errorf("%s: no %s in %q", r.Component, one, all)
			}
		}
	}
}
