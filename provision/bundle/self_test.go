package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// release is a directory with an executable of slipway's.
func release(t *testing.T, s *Sibling) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s.CacheDir, s.Version, s.Arch, s.Executable = t.TempDir(), "v1.2.3", other(), filepath.Join(dir, "bin", "slipway")
	must(t, os.MkdirAll(filepath.Dir(s.Executable), 0o755))
	must(t, os.WriteFile(s.Executable, []byte("this one"), 0o755))
	return dir
}

func TestSelfIsTheRunningProgram(t *testing.T) {
	cache := t.TempDir()
	a, dir, err := Self(cache)
	must(t, err)
	again, at, err := SelfFor(t.Context(), Sibling{CacheDir: cache, Arch: a.Arch})
	must(t, err)
	if again != a || at != dir || a.present(filepath.Join(dir, a.Path)) != nil {
		t.Errorf("%+v in %s, and %+v in %s", a, dir, again, at)
	}
}

// TestSelfForAnotherArchitecture: without a release's file and without the source, the error says
// which file is missing where.
func TestSelfForAnotherArchitecture(t *testing.T) {
	var s Sibling
	dir := release(t, &s)
	_, _, err := SelfFor(t.Context(), s)
	beside := filepath.Join(dir, "bin", "slipway_v1.2.3_linux_"+other())
	wantError(t, err, "slipway for linux/"+other(), "put the file of the same release for them next to this one, as "+beside)

	must(t, os.WriteFile(beside, []byte("no program"), 0o755))
	_, _, err = SelfFor(t.Context(), s)
	wantError(t, err, beside+" is no program of Go")

	s.Arch = "riscv64"
	_, _, err = SelfFor(t.Context(), s)
	wantError(t, err, `no bundle for the architecture "riscv64"`)
}

// TestSourceOf: only slipway's own module counts, and the first one above the executable.
func TestSourceOf(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	must(t, os.MkdirAll(deep, 0o755))
	if got := sourceOf(deep); got != "" {
		t.Errorf("without a module: %q", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+selfModule+"\n\ngo 1.26.0\n"), 0o644))
	if got := sourceOf(deep); got != dir {
		t.Errorf("below the source: %q", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "a", "go.mod"), []byte("module slipway.dev/slipway/other\n"), 0o644))
	if got := sourceOf(deep); got != "" {
		t.Errorf("in another module: %q", got)
	}
}

// TestSelfIsBuiltFromSource, once: it stays in the cache with the program that it belongs to, also when
// others are removed, and is built again if that program is another one.
func TestSelfIsBuiltFromSource(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	var s Sibling
	dir := release(t, &s)
	var seen []string
	s.Progress = func(e Event) { seen = append(seen, e.String()) }
	must(t, os.MkdirAll(filepath.Join(dir, "cmd", "slipway"), 0o755))
	for name, text := range map[string]string{
		"go.mod":              "module " + selfModule + "\n\ngo 1.26.0\n",
		"cmd/slipway/main.go": "package main\n\nvar version string\n\nfunc main() { println(\"this is \" + version) }\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	a, at, err := SelfFor(t.Context(), s)
	must(t, err)
	file := filepath.Join(at, a.Path)
	content, err := os.ReadFile(file)
	must(t, err)
	if a.Arch != other() || a.OS != "linux" || !strings.Contains(string(content), "v1.2.3") || checkProgram(file, other()) != nil {
		t.Errorf("built was %+v", a)
	}
	must(t, isSlipway(file))
	again, _, err := SelfFor(t.Context(), s)
	must(t, err)
	if again != a || len(seen) != 1 || !strings.HasPrefix(seen[0], "slipway v1.2.3: building: for "+other()+", from ") {
		t.Errorf("again it is %+v; %q", again, seen)
	}

	own, ownDir, err := keep(t.Context(), s.CacheDir, s.Executable, platform{"linux", "amd64"})
	must(t, err)
	long := time.Now().Add(-48 * time.Hour)
	for _, d := range []string{at, ownDir} {
		must(t, os.Chtimes(d, long, long))
	}
	unused, err := FindUnused(s.CacheDir, ownDir, filepath.Join(s.CacheDir, "packed"), false)
	must(t, err)
	if len(unused) != 0 {
		t.Errorf("unused are %+v, and %s belongs to %s", unused, a.Version, own.Version)
	}
	unused, err = FindUnused(s.CacheDir, filepath.Join(s.CacheDir, "bundles", selfPrefix+"0123456789abcdef"), filepath.Join(s.CacheDir, "packed"), false)
	must(t, err)
	if !slices.ContainsFunc(unused, func(u Unused) bool { return u.Path == at }) {
		t.Errorf("unused of another slipway are %+v", unused)
	}

	must(t, os.WriteFile(s.Executable, []byte("another one"), 0o755))
	_, _, err = SelfFor(t.Context(), s)
	must(t, err)
	if len(seen) != 2 {
		t.Errorf("of another program: %q", seen)
	}

	// A release's file is preferred to the source.
	beside := filepath.Join(filepath.Dir(s.Executable), "slipway_v1.2.3_linux_"+other())
	must(t, copyFile(file, beside))
	must(t, os.Remove(siblingsFile(s.CacheDir)))
	found, _, err := SelfFor(t.Context(), s)
	must(t, err)
	if found != a || len(seen) != 2 {
		t.Errorf("found was %+v; %q", found, seen)
	}
}
