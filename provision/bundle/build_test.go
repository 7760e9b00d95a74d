package bundle

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rowsNamed picks recipes of the newest release.
func rowsNamed(t *testing.T, components ...string) []recipe {
	t.Helper()
	all, err := recipesFor(Versions()[0])
	must(t, err)
	var rows []recipe
	for _, r := range all {
		if slices.Contains(components, r.Component) {
			rows = append(rows, r)
		}
	}
	return rows
}

// phases collects what was reported of each component, a phase that is measured once.
type phases map[string][]Phase

func (p phases) options(t *testing.T, cacheDir string) Options {
	t.Helper()
	clear(p)
	o, err := Options{CacheDir: cacheDir, Progress: func(e Event) {
		t.Log(e)
		if before := p[e.Component]; len(before) == 0 || before[len(before)-1] != e.Phase {
			p[e.Component] = append(before, e.Phase)
		}
	}}.complete()
	must(t, err)
	return o
}

// Two builds in two places give the same bundle; a second one in the same place builds nothing; a changed recipe is
// built again, and only that. It builds small components for real: C, Go, and an image.
func TestBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	rows := rowsNamed(t, "cni-plugins", "cni-plugin-flannel", "pause")
	must(t, missingTools(t.Context(), rows, runtime.GOARCH, exec.LookPath))
	seen, dir := phases{}, t.TempDir()

	first, err := buildRows(t.Context(), seen.options(t, dir), rows)
	must(t, err)
	must(t, first.Verify(t.Context()))
	if got := seen["cni-plugins"]; got[0] != Building || got[len(got)-1] != Done {
		t.Errorf("first build: %v", got)
	}
	elsewhere, err := buildRows(t.Context(), seen.options(t, t.TempDir()), rows)
	must(t, err)
	if elsewhere.Digest != first.Digest {
		t.Errorf("built elsewhere it is %s, not %s:\n%+v\n%+v", elsewhere.Digest, first.Digest, elsewhere.Artifacts, first.Artifacts)
	}

	again, err := buildRows(t.Context(), seen.options(t, dir), rows)
	must(t, err)
	for component, got := range seen {
		if component != "" && !slices.Equal(got, []Phase{Cached}) {
			t.Errorf("second build of %s: %v", component, got)
		}
	}
	if again.Digest != first.Digest {
		t.Errorf("second build: %s, want %s", again.Digest, first.Digest)
	}

	changed := slices.Clone(rows)
	i := slices.IndexFunc(changed, func(r recipe) bool { return r.Component == "cni-plugin-flannel" })
	changed[i].Stamps = []string{"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v0.0.1"}
	other, err := buildRows(t.Context(), seen.options(t, dir), changed)
	must(t, err)
	if other.Digest == first.Digest || !slices.Contains(seen["cni-plugin-flannel"], Building) {
		t.Errorf("a changed recipe was not built: %v", seen)
	}
	if got := seen["cni-plugins"]; !slices.Equal(got, []Phase{Cached}) {
		t.Errorf("an unchanged recipe was built: %v", got)
	}
	flannel, _ := other.Artifact("flannel")
	out, _ := exec.Command(other.File(flannel)).CombinedOutput()
	if !strings.Contains(string(out), "v0.0.1") {
		t.Errorf("the stamp is not in the program, which says %s", out)
	}
}

// TestBuildWholeTwice builds everything twice, in two caches: up to half an hour.
func TestBuildWholeTwice(t *testing.T) {
	if os.Getenv("SLIPWAY_TEST_BUNDLE_TWICE") == "" {
		t.Skip("set SLIPWAY_TEST_BUNDLE_TWICE=1 to build the whole bundle twice")
	}
	var digests [2]string
	for i := range digests {
		b, err := Build(t.Context(), Options{CacheDir: t.TempDir(), Progress: func(e Event) { t.Log(e) }})
		must(t, err)
		must(t, b.Verify(t.Context()))
		digests[i] = b.Digest
	}
	if digests[0] != digests[1] {
		t.Errorf("built twice, it is %s and %s", digests[0], digests[1])
	}
}

func TestGoPause(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	must(t, os.Mkdir(work, 0o755))
	must(t, compilePause(t.Context(), rowsNamed(t, "pause")[0], work, dir, "amd64"))
	cmd := exec.Command(filepath.Join(dir, "pause"))
	must(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err := <-exited:
		t.Fatalf("pause did not wait: %v", err)
	case <-time.After(50 * time.Millisecond): // that it goes on can only be seen by time passing
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-exited:
		must(t, err)
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("pause did not end when told to")
	}
}

func TestMissingToolsAllAtOnce(t *testing.T) {
	none := func(string) (string, error) { return "", exec.ErrNotFound }
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	err = missingTools(t.Context(), rows, runtime.GOARCH, none)
	wantError(t, err, "go,", "gcc", "static C library", "pkg-config", "libseccomp",
		"apt-get install golang-go gcc libc6-dev pkg-config libseccomp-dev")
	err = missingTools(t.Context(), rowsNamed(t, "etcd"), runtime.GOARCH, none)
	wantError(t, err, "apt-get install golang-go)")
}

// A broken build says what the compiler said, and leaves nothing half made.
func TestBuildFails(t *testing.T) {
	rows := rowsNamed(t, "cni-plugins")
	rows[0].Packages = []program{{"github.com/containernetworking/plugins/plugins/main/nothing", "nothing"}}
	o := testOptions(t)
	_, err := buildRows(t.Context(), o, rows)
	wantError(t, err, "cni-plugins v1.9.1", "plugins/main/nothing")
	entries, err := os.ReadDir(filepath.Join(o.CacheDir, "build"))
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if bundles, err := List(o.CacheDir); len(bundles) != 0 || err != nil {
		t.Errorf("bundles %v, %v", bundles, err)
	}
}

// What a child process started ends with it: both write their ids into a file, then would wait for long.
func TestCancelEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := command{dir: dir, args: []string{"sh", "-c", "sleep 600 & echo $! $$ >tmp && mv tmp ids && wait"}}.run(ctx)
		done <- err
	}()
	var ids []byte
	for deadline := time.Now().Add(10 * time.Second); ids == nil; {
		ids, _ = os.ReadFile(filepath.Join(dir, "ids"))
		if time.Now().After(deadline) {
			t.Fatal("the child did not start")
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that of the context", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("run did not return")
	}
	for _, id := range strings.Fields(string(ids)) {
		pid, err := strconv.Atoi(id)
		must(t, err)
		for deadline := time.Now().Add(10 * time.Second); alive(pid); {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", pid)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

func TestCommandErrorHasEverything(t *testing.T) {
	_, err := command{args: []string{"sh", "-c", "echo first >&2; echo second >&2; exit 3"}}.run(t.Context())
	wantError(t, err, "sh -c", "exit status 3", "first\nsecond")
}

func TestNeutralEnvironment(t *testing.T) {
	got := neutral([]string{"PATH=/bin", "GOFLAGS=-mod=mod", "CGO_LDFLAGS=-g", "GOARCH=arm", "GOPROXY=https://example.com", "GOAMD64=v3"})
	if want := []string{"PATH=/bin", "GOPROXY=https://example.com"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
