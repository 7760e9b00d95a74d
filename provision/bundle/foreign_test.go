package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// versions are the commands with which programs say their version, and what they say.
var versions = map[string]struct {
	args []string
	says string
}{
	"kube-apiserver": {says: "Kubernetes v1.36.3"}, "kube-controller-manager": {says: "Kubernetes v1.36.3"},
	"kube-scheduler": {says: "Kubernetes v1.36.3"}, "kubelet": {says: "Kubernetes v1.36.3"}, "kube-proxy": {says: "Kubernetes v1.36.3"},
	"kubectl": {[]string{"version", "--client"}, "v1.36.3"}, "kubeadm": {[]string{"version", "-o", "short"}, "v1.36.3"},
	"etcd": {says: "3.6.16"}, "etcdctl": {[]string{"version"}, "3.6.16"}, "etcdutl": {[]string{"version"}, "3.6.16"},
	"containerd": {says: "v2.4.2"}, "containerd-shim-runc-v2": {[]string{"-v"}, "v2.4.2"}, "ctr": {says: "v2.4.2"},
	"runc": {says: "libseccomp:"}, "flanneld": {says: "v0.28.4"}, "crictl": {says: "v1.36.0"},
	"bridge": {says: "v1.9.1"}, "loopback": {says: "v1.9.1"}, "host-local": {says: "v1.9.1"}, "portmap": {says: "v1.9.1"},
	"flannel": {says: "v0.9.1"}, "coredns": {[]string{"-version"}, "1.15.0"}, "pause": {[]string{"-v"}, "3.10.2"},
	"slipway": {[]string{"version"}, "slipway"},
}

// TestOtherArchitecture builds components for the other architecture, or "all" and slipway too, and runs
// every program under QEMU as far as its version.
func TestOtherArchitecture(t *testing.T) {
	names := os.Getenv("SLIPWAY_TEST_BUNDLE_ARCH")
	if names == "" {
		t.Skip("set SLIPWAY_TEST_BUNDLE_ARCH=all, or to components (etcd,runc,...), to build them for " + other())
	}
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	if names != "all" {
		rows = rowsNamed(t, strings.Split(names, ",")...)
	}
	o, err := Options{CacheDir: t.TempDir(), Arch: other(), Progress: Sparingly(func(e Event) { t.Log(e) })}.complete()
	must(t, err)
	b, err := buildRows(t.Context(), o, rows)
	must(t, err)
	must(t, b.Verify(t.Context()))
	dir := t.TempDir()
	programs := map[string]string{}
	for _, a := range b.Artifacts {
		name, file := a.Name, b.File(a)
		if a.Kind == Image {
			name, file = programOf(t, file, dir)
		}
		programs[name] = file
	}
	if names == "all" {
		programs["slipway"] = filepath.Join(dir, "slipway")
		_, err := command{env: goEnv(other(), false), args: []string{"go", "build", "-trimpath", "-o", programs["slipway"], selfModule + "/cmd/slipway"}}.run(t.Context())
		must(t, err)
		must(t, checkProgram(programs["slipway"], other()))
	}
	for name, file := range programs {
		t.Run(name, func(t *testing.T) { runForeign(t, name, file) })
	}
}

// runForeign runs a program under QEMU.
func runForeign(t *testing.T, name, file string) {
	emulator, err := lookEmulator()
	if err != nil {
		t.Skipf("built and checked, but not run: %v (on Debian: apt-get install qemu-user-static)", err)
	}
	v, ok := versions[name]
	if !ok {
		t.Fatalf("how it says its version is in no table")
	}
	if v.args == nil {
		v.args = []string{"--version"}
	}
	cmd := exec.CommandContext(t.Context(), emulator, append([]string{file}, v.args...)...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("%s: %s", name, out)
	if err != nil || !strings.Contains(string(out), v.says) {
		t.Errorf("it says %q, %v; want %q", out, err, v.says)
	}
}

// lookEmulator finds QEMU's user mode for the other architecture.
func lookEmulator() (string, error) {
	machine := map[string]string{"arm64": "aarch64", "amd64": "x86_64"}[other()]
	static, err := exec.LookPath("qemu-" + machine + "-static")
	if err == nil {
		return static, nil
	}
	plain, err := exec.LookPath("qemu-" + machine)
	return cmp.Or(plain, static), err
}

// programOf unpacks the only program of an image.
func programOf(t *testing.T, file, dir string) (name, program string) {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	outer := tar.NewReader(bytes.NewReader(content))
	for {
		_, err := outer.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no layer", file)
		}
		must(t, err)
		blob, err := io.ReadAll(outer)
		must(t, err)
		if !isArchive(blob) {
			continue
		}
		layer := tar.NewReader(bytes.NewReader(blob))
		header, err := layer.Next()
		must(t, err)
		inside, err := io.ReadAll(layer)
		must(t, err)
		program = filepath.Join(dir, header.Name)
		must(t, os.WriteFile(program, inside, 0o755))
		return header.Name, program
	}
}
