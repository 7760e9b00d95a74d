package bundle

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeBundle assembles a small bundle in a cache of the test's own.
func makeBundle(t *testing.T) (*Bundle, Options) {
	t.Helper()
	o := testOptions(t)
	dir := t.TempDir()
	c := component{dir: dir}
	for _, a := range []Artifact{
		{Name: "kubelet", Component: "kubernetes", Version: "v1.36.3", Kind: Binary, Path: "bin/kubelet"},
		{Name: "kubectl", Component: "kubernetes", Version: "v1.36.3", Kind: Binary, Path: "bin/kubectl"},
		{Name: "pause.tar", Component: "pause", Version: "3.10.2", Kind: Image, Path: "images/pause.tar", Ref: "slipway.invalid/pause:3.10.2"},
	} {
		a.OS, a.Arch = "linux", "amd64"
		file := filepath.Join(dir, a.Path)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte("content of "+a.Name), 0o755))
		must(t, a.measure(t.Context(), file))
		c.artifacts = append(c.artifacts, a)
	}
	b, err := assemble(t.Context(), o, []component{c})
	must(t, err)
	return b, o
}

func testOptions(t *testing.T) Options {
	t.Helper()
	o, err := Options{CacheDir: t.TempDir(), Progress: func(e Event) { t.Log(e) }}.complete()
	must(t, err)
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails unless err's text contains every part.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestBundleOnDisk(t *testing.T) {
	b, o := makeBundle(t)
	if got, want := b.Digest, "2d8e2fb8dd2d07dc"; got != want {
		t.Errorf("digest %s, want %s: if the form of bundle.json changed, every cache is made anew", got, want)
	}
	if got, want := b.Dir, filepath.Join(o.CacheDir, "bundles", b.Digest); got != want {
		t.Errorf("directory %s, want %s", got, want)
	}
	must(t, b.Verify(t.Context()))
	kubelet, ok := b.Artifact("kubelet")
	if !ok || b.File(kubelet) != filepath.Join(b.Dir, "bin/kubelet") {
		t.Errorf("kubelet: %v, file %s", ok, b.File(kubelet))
	}
	if _, ok := b.Artifact("kubele"); ok {
		t.Error("found an artifact that is not there")
	}
	for path, mode := range map[string]os.FileMode{"bin/kubelet": 0o755, "bundle.json": 0o644, ".": 0o755 | os.ModeDir} {
		info, err := os.Stat(filepath.Join(b.Dir, path))
		must(t, err)
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
		}
	}
	again, err := Open(b.Dir)
	must(t, err)
	if !slices.Equal(again.Artifacts, b.Artifacts) || again.Digest != b.Digest || again.KubernetesVersion != "v1.36.3" {
		t.Errorf("opened %+v, want %+v", again, b)
	}
}

func TestOpenRefuses(t *testing.T) {
	edit := func(from, to string) func(*testing.T, *Bundle) {
		return func(t *testing.T, b *Bundle) {
			file := filepath.Join(b.Dir, "bundle.json")
			data, err := os.ReadFile(file)
			must(t, err)
			if !strings.Contains(string(data), from) {
				t.Fatalf("no %q in %s", from, data)
			}
			must(t, os.WriteFile(file, []byte(strings.Replace(string(data), from, to, 1)), 0o644))
		}
	}
	for name, test := range map[string]struct {
		break_ func(*testing.T, *Bundle)
		want   string
	}{
		"no bundle.json":   {func(t *testing.T, b *Bundle) { must(t, os.Remove(filepath.Join(b.Dir, "bundle.json"))) }, "bundle.json"},
		"not JSON":         {edit("{", "["), "bundle.json"},
		"another version":  {edit("v1alpha1", "v2"), "slipway.dev/v2 Bundle"},
		"an unknown field": {edit(`"kind"`, `"colour": 1, "kind"`), "colour"},
		"a path outside":   {edit("bin/kubelet", "../../etc/passwd"), "outside"},
		"a missing file":   {func(t *testing.T, b *Bundle) { must(t, os.Remove(filepath.Join(b.Dir, "bin/kubelet"))) }, "bin/kubelet"},
		"a shorter file":   {func(t *testing.T, b *Bundle) { must(t, os.Truncate(filepath.Join(b.Dir, "bin/kubelet"), 3)) }, "has 3 bytes, want 18"},
		"not executable":   {func(t *testing.T, b *Bundle) { must(t, os.Chmod(filepath.Join(b.Dir, "bin/kubelet"), 0o644)) }, "not executable"},
		"a symbolic link": {func(t *testing.T, b *Bundle) {
			must(t, os.Remove(filepath.Join(b.Dir, "bin/kubelet")))
			must(t, os.Symlink("kubectl", filepath.Join(b.Dir, "bin/kubelet")))
		}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := makeBundle(t)
			test.break_(t, b)
			_, err := Open(b.Dir)
			wantError(t, err, b.Dir, test.want)
		})
	}
}

func TestVerifyNamesEverythingAtOnce(t *testing.T) {
	b, _ := makeBundle(t)
	must(t, os.WriteFile(filepath.Join(b.Dir, "bin/kubelet"), []byte("content of kubelex"), 0o755)) // same size
	must(t, os.Remove(filepath.Join(b.Dir, "images/pause.tar")))
	must(t, os.WriteFile(filepath.Join(b.Dir, "bin/stranger"), nil, 0o755))
	err := b.Verify(t.Context())
	wantError(t, err, "bin/kubelet has the SHA-256", "images/pause.tar", "bin/stranger is not in bundle.json")
	if strings.Contains(err.Error(), "kubectl") {
		t.Errorf("%v names a file that is as it should be", err)
	}
	renamed := filepath.Join(filepath.Dir(b.Dir), strings.Repeat("0", 16))
	whole, _ := makeBundle(t)
	must(t, os.Rename(whole.Dir, renamed))
	moved, err := Open(renamed)
	must(t, err)
	wantError(t, moved.Verify(t.Context()), "its directory says 0000000000000000")
}

func TestVerifyStops(t *testing.T) {
	b, _ := makeBundle(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, b.Verify(ctx), "context canceled")
}

func TestAssembleRepairs(t *testing.T) {
	o := testOptions(t)
	dir := t.TempDir()
	a := Artifact{Name: "x", Component: "x", Version: "v1", Kind: Binary, OS: "linux", Arch: "amd64", Path: "bin/x"}
	file := filepath.Join(dir, a.Path)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte("good"), 0o755))
	must(t, a.measure(t.Context(), file))
	c := component{dir, []Artifact{a}}
	b, err := assemble(t.Context(), o, []component{c})
	must(t, err)
	must(t, os.Remove(b.File(a)))
	_, err = assemble(t.Context(), o, []component{c})
	must(t, err)
	must(t, b.Verify(t.Context()))

	// What went bad in the cache neither enters a bundle nor stays.
	must(t, os.Remove(b.File(a)))
	must(t, os.WriteFile(file, []byte("evil"), 0o755))
	_, err = assemble(t.Context(), o, []component{c})
	wantError(t, err, file+" has the SHA-256")
	if _, err := os.Stat(dir); err == nil {
		t.Error("the damaged component is still in the cache")
	}
}

func TestList(t *testing.T) {
	if bundles, err := List(filepath.Join(t.TempDir(), "none")); bundles != nil || err != nil {
		t.Errorf("no cache gives %v, %v", bundles, err)
	}
	b, o := makeBundle(t)
	broken := filepath.Join(o.CacheDir, "bundles", "0123456789abcdef")
	must(t, os.Mkdir(broken, 0o755))
	must(t, os.Mkdir(filepath.Join(o.CacheDir, "bundles", "slipway-0123456789abcdef"), 0o755))
	bundles, err := List(o.CacheDir)
	wantError(t, err, broken)
	if len(bundles) != 1 || bundles[0].Digest != b.Digest {
		t.Errorf("listed %+v", bundles)
	}
}

func FuzzOpen(f *testing.F) {
	good, err := json.Marshal(Bundle{APIVersion: APIVersion, Kind: Kind, Artifacts: []Artifact{{Name: "x", Path: "../x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "bundle.json"), data, 0o644))
		b, err := Open(dir)
		if err != nil {
			return
		}
		for _, a := range b.Artifacts {
			if !strings.HasPrefix(b.File(a), dir) {
				t.Errorf("%q leads outside: %s", a.Path, b.File(a))
			}
		}
	})
}
