package bundle

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// recipes has a wrapper module for every component that is built with Go. Its go.mod names the
// packages in `tool` directives and, with its go.sum, pins every module that they use. The files
// have the component's name because a directory with a go.mod cannot be embedded. See
// docs/decisions/2026-11-20-bundle-recipes.md.
//
//go:embed recipes
var recipes embed.FS

// recipe is a component: its source, how to build it, its files, and upstream's releases.
// Everything is part of the component's digest, so the fields are exported for JSON.
type recipe struct {
	Component string
	Version   string
	Module    string    // of recipes/<Module>.mod and .sum; "<Component>-<Version>" if empty
	Packages  []program // commands to build with Go, in any order
	Stamps    []string  // -X flags
	Tags      string    // comma-separated build tags
	Cgo       bool      // needs gcc, and links statically
	C         *cSource  // instead of Packages: one C file, linked statically
	Image     *image    // put the only program into an image, and the image into the bundle, instead of it
	Whole     bool      // uses all processors: nothing else is built at the same time
	Upstream  upstream  // upstream's releases, for Download
}

// program is a Go command and the name that its executable has in the bundle, and upstream.
type program struct {
	Package string
	Name    string
}

// cSource is a program of one C file that a Go module happens to carry.
type cSource struct {
	Module, File string
	Name         string
	Flags        []string
}

// image has the name and entrypoint of a program's OCI image. The program is the image's only file.
type image struct {
	// Ref is a name that no registry can have (RFC 6761, "invalid."): a runtime that lacks the
	// image cannot pull it. See docs/decisions/2026-11-26-image-names.md.
	Ref  string
	User string // uid:gid
}

// file is the image's name in the bundle.
func (r recipe) imageFile() string { return r.Component + ".tar" }

// names are the programs that the component consists of, before they go into an image.
func (r recipe) names() []string {
	if r.C != nil {
		return []string{r.C.Name}
	}
	names := make([]string, len(r.Packages))
	for i, p := range r.Packages {
		names[i] = p.Name
	}
	return names
}

func (r recipe) module() string {
	if r.Module != "" {
		return r.Module
	}
	return r.Component + "-" + r.Version
}

// wrapper returns the go.mod and go.sum that the recipe builds in.
func (r recipe) wrapper() (mod, sum []byte, err error) {
	if mod, err = recipes.ReadFile(path.Join("recipes", r.module()+".mod")); err != nil {
		return nil, nil, err
	}
	if sum, err = recipes.ReadFile(path.Join("recipes", r.module()+".sum")); err != nil {
		return nil, nil, err
	}
	return mod, sum, nil
}

// ldflags link without symbols, build IDs and paths, so that the same source produces the same
// bytes everywhere.
func (r recipe) ldflags() string {
	flags := []string{"-s", "-w", "-buildid="}
	if r.Cgo {
		flags = append(flags, "-extldflags", "-static")
	}
	for _, stamp := range r.Stamps {
		flags = append(flags, "-X", stamp)
	}
	return strings.Join(flags, " ")
}

// kubernetesRecipe is the row of one Kubernetes release. Unstamped, kubelet and kubeadm would
// report v0.0.0.
func kubernetesRecipe(version string) recipe {
	var stamps []string
	major, minor, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	for _, p := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		stamps = append(stamps, p+".gitVersion="+version, p+".gitMajor="+major, p+".gitMinor="+minor, p+".gitTreeState=clean")
	}
	return recipe{
		Component: "kubernetes", Version: version, Stamps: stamps, Whole: true,
		Packages: commands("k8s.io/kubernetes/cmd/",
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
			"kubeadm"), // no node needs it; tests and benchmarks compare with it
		Upstream: upstream{
			Base: kubernetesDownloads,
			File: "release/{version}/bin/linux/{arch}/{name}", Digest: "{file}.sha256",
		},
	}
}

// pauseRecipe is the infrastructure container's program, in C, out of the Kubernetes release's own
// source. Upstream publishes it as an image only, so Download builds it too, from a few lines of
// Go.
func pauseRecipe(kubernetes, version string) recipe {
	return recipe{
		Component: "pause", Version: version, Module: "kubernetes-" + kubernetes,
		C: &cSource{
			Module: "k8s.io/kubernetes", File: "build/pause/linux/pause.c", Name: "pause",
			Flags: []string{"-Os", "-Wall", "-Werror", "-static", "-s", "-DVERSION=v" + version},
		},
		Image: &image{Ref: "slipway.invalid/pause:" + version, User: "65535:65535"},
	}
}

// releases lists the supported Kubernetes versions and their differences. The pause version is the
// one that the release's kubeadm would pull (cmd/kubeadm/app/constants/constants.go).
var releases = []struct {
	Kubernetes string
	Pause      string
}{
	{Kubernetes: "v1.36.3", Pause: "3.10.2"},
}

// stack are the components that all releases share.
var stack = []recipe{
	{
		Component: "coredns", Version: "v1.15.0",
		Packages: []program{{"github.com/coredns/coredns", "coredns"}},
		Image:    &image{Ref: "slipway.invalid/coredns:v1.15.0", User: "65532:65532"},
		Upstream: upstream{
			File:   "coredns/coredns/releases/download/{version}/coredns_{number}_linux_{arch}.tgz",
			Digest: "{file}.sha256", Member: "{name}",
		},
	},
	{
		Component: "flannel", Version: "v0.28.4", Cgo: true, Tags: "netgo,osusergo", // else its udp backend does not link
		Packages: []program{{"github.com/flannel-io/flannel", "flanneld"}},
		Stamps:   []string{"github.com/flannel-io/flannel/pkg/version.Version=v0.28.4"},
		Upstream: upstream{
			File: "flannel-io/flannel/releases/download/{version}/flanneld-{arch}",
			// Flannel publishes no digests: those of the hosting service are used, or a file that
			// the mirror adds.
			Digest:  "{file}.sha256",
			Release: githubReleases + "flannel-io/flannel/releases/tags/{version}",
		},
	},
	{
		Component: "containerd", Version: "v2.4.2",
		Packages: commands("github.com/containerd/containerd/v2/cmd/", "containerd", "containerd-shim-runc-v2", "ctr"),
		Stamps:   []string{"github.com/containerd/containerd/v2/version.Version=v2.4.2"},
		Upstream: upstream{
			File:   "containerd/containerd/releases/download/{version}/containerd-{number}-linux-{arch}.tar.gz",
			Digest: "{file}.sha256sum", Member: "bin/{name}",
		},
	},
	{
		Component: "etcd", Version: "v3.6.16",
		Packages: []program{
			{"go.etcd.io/etcd/server/v3", "etcd"},
			{"go.etcd.io/etcd/etcdctl/v3", "etcdctl"},
			{"go.etcd.io/etcd/etcdutl/v3", "etcdutl"},
		},
		Upstream: upstream{
			File:   "etcd-io/etcd/releases/download/{version}/etcd-{version}-linux-{arch}.tar.gz",
			Digest: "etcd-io/etcd/releases/download/{version}/SHA256SUMS", Member: "etcd-{version}-linux-{arch}/{name}",
		},
	},
	{
		Component: "cri-tools", Version: "v1.36.0",
		Packages: []program{{"sigs.k8s.io/cri-tools/cmd/crictl", "crictl"}},
		Stamps:   []string{"sigs.k8s.io/cri-tools/pkg/version.Version=v1.36.0"},
		Upstream: upstream{
			File:   "kubernetes-sigs/cri-tools/releases/download/{version}/crictl-{version}-linux-{arch}.tar.gz",
			Digest: "{file}.sha256", Member: "{name}",
		},
	},
	{
		// Without the seccomp tag every sandbox fails: "seccomp: config provided but seccomp not
		// supported".
		Component: "runc", Version: "v1.5.2", Cgo: true, Tags: "seccomp,netgo,osusergo,static_build",
		Packages: []program{{"github.com/opencontainers/runc", "runc"}},
		Stamps:   []string{"main.version=1.5.2"},
		Upstream: upstream{
			File:   "opencontainers/runc/releases/download/{version}/runc.{arch}",
			Digest: "opencontainers/runc/releases/download/{version}/runc.sha256sum",
		},
	},
	{
		Component: "cni-plugins", Version: "v1.9.1",
		Packages: []program{
			{"github.com/containernetworking/plugins/plugins/main/bridge", "bridge"},
			{"github.com/containernetworking/plugins/plugins/main/loopback", "loopback"},
			{"github.com/containernetworking/plugins/plugins/ipam/host-local", "host-local"},
			{"github.com/containernetworking/plugins/plugins/meta/portmap", "portmap"},
		},
		Stamps: []string{"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.9.1"},
		Upstream: upstream{
			File:   "containernetworking/plugins/releases/download/{version}/cni-plugins-linux-{arch}-{version}.tgz",
			Digest: "{file}.sha256", Member: "{name}",
		},
	},
	{
		// The plugin that hands flanneld's subnet to bridge. Its own repository's module cannot be
		// had from the Go module proxy, so this is the last release of the same program in the CNI
		// plugins, on today's CNI library.
		Component: "cni-plugin-flannel", Version: "v0.9.1",
		Packages: []program{{"github.com/containernetworking/plugins/plugins/meta/flannel", "flannel"}},
		Stamps:   []string{"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v0.9.1"},
		Upstream: upstream{
			Version: "v1.8.0-flannel1",
			File:    "flannel-io/cni-plugin/releases/download/{version}/cni-plugin-flannel-linux-{arch}-{version}.tgz",
			Digest:  "{file}.sha256", Member: "{name}-{arch}",
		},
	},
}

// commands are the packages prefix+name, each with its own name.
func commands(prefix string, names ...string) []program {
	programs := make([]program, len(names))
	for i, name := range names {
		programs[i] = program{prefix + name, name}
	}
	return programs
}

// Versions returns the supported Kubernetes releases, newest first.
func Versions() []string {
	var versions []string
	for _, r := range releases {
		versions = append(versions, r.Kubernetes)
	}
	return versions
}

// recipesFor lists the components of a bundle for a Kubernetes release, the slowest first.
func recipesFor(kubernetes string) ([]recipe, error) {
	for _, r := range releases {
		if r.Kubernetes == kubernetes {
			rows := append([]recipe{kubernetesRecipe(r.Kubernetes)}, stack...)
			return append(rows, pauseRecipe(r.Kubernetes, r.Pause)), nil
		}
	}
	return nil, fmt.Errorf("no bundle for Kubernetes %q: this slipway has %s", kubernetes, strings.Join(Versions(), ", "))
}

// output returns the name of a package's executable with `go build -o dir/`: the last element of
// its path that is not a major version (see `go help build`).
func output(pkg string) string {
	base := path.Base(pkg)
	if majorVersion.MatchString(base) {
		base = path.Base(path.Dir(pkg))
	}
	return base
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)
