package bundle

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Ensure takes upstream where it answers, and then never asks again as long as the bundle is whole.
func TestEnsure(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the pause program")
	}
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	files := published(t, rows)
	server := serve(t, files)
	withoutBuiltInPins(t)
	var events []Event
	o := Options{CacheDir: t.TempDir(), Mirror: server.URL, Arch: "amd64", Pins: pinsOf(t, rows, files), Progress: func(e Event) { events = append(events, e) }}
	b, err := Ensure(t.Context(), o)
	must(t, err)
	if events[0].Phase != Choosing || !strings.Contains(events[0].Detail, "downloading") {
		t.Errorf("chose %v", events[0])
	}
	if pause, ok := b.Artifact("pause.tar"); !ok || pause.Ref != "slipway.invalid/pause:3.10.2" {
		t.Errorf("pause: %+v", pause)
	}
	server.Close()
	events = nil
	for _, source := range []Source{FromAuto, FromDownload} {
		o.Source = source
		start := time.Now()
		again, err := Ensure(t.Context(), o)
		must(t, err)
		if again.Digest != b.Digest || len(events) != 0 {
			t.Errorf("%s: %s, %v", source, again.Digest, events)
		}
		t.Logf("from the cache in %s", time.Since(start))
	}

	// What is no longer whole is not taken: the components are in the cache, so it is put back without upstream.
	kubelet, _ := b.Artifact("kubelet")
	must(t, os.Remove(b.File(kubelet)))
	o.Source = FromDownload
	repaired, err := Ensure(t.Context(), o)
	must(t, err)
	must(t, repaired.Verify(t.Context()))
}

func TestChoose(t *testing.T) {
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	dir := t.TempDir()
	o := testOptions(t)
	o.Arch, o.Mirror = "amd64", dir
	o.pins = &pinSet{pins: pinsOf(t, rows, published(t, rows))}
	if got := choose(t.Context(), o, rows); got != FromBuild {
		t.Errorf("an empty mirror: %s", got)
	}
	probe := filepath.Join(dir, "release/v1.36.3/bin/linux/amd64/kube-apiserver.sha256")
	must(t, os.MkdirAll(filepath.Dir(probe), 0o755))
	must(t, os.WriteFile(probe, nil, 0o644))
	if got := choose(t.Context(), o, rows); got != FromDownload {
		t.Errorf("a mirror: %s", got)
	}
	o.pins = &pinSet{pins: Pins{}}
	if got := choose(t.Context(), o, rows); got != FromBuild {
		t.Errorf("a mirror of files without pins: %s", got)
	}
	o.pins = &pinSet{pins: pinsOf(t, rows, published(t, rows))}
	o.Mirror = "http://127.0.0.1:1" // tcpmux: nobody listens
	if got := choose(t.Context(), o, rows); got != FromBuild {
		t.Errorf("a mirror that is not there: %s", got)
	}
}

func TestEnsureRefuses(t *testing.T) {
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{}, "no cache directory"},
		{Options{CacheDir: t.TempDir(), Source: "magic"}, `"magic"`},
		{Options{CacheDir: t.TempDir(), KubernetesVersion: "v9.9.9"}, "v9.9.9"},
	} {
		_, err := Ensure(t.Context(), test.o)
		wantError(t, err, test.want)
	}
}

// The index answers only for the same recipes, source and processor.
func TestIndex(t *testing.T) {
	b, o := makeBundle(t)
	rows := rowsNamed(t, "etcd", "runc")
	must(t, record(o, rows, FromBuild, b.Digest))
	if got := cached(o, rows); got == nil || got.Digest != b.Digest {
		t.Fatalf("not found: %+v", got)
	}
	changed := slices.Clone(rows)
	changed[0].Version = "v0.0.1"
	changed[0].Module = rows[0].module()
	other := o
	other.Arch = "s390x"
	download := o
	download.Source = FromDownload
	if cached(o, changed) != nil || cached(other, rows) != nil || cached(download, rows) != nil {
		t.Error("found for another request")
	}
	must(t, os.WriteFile(indexFile(o), []byte("rubbish"), 0o644))
	if cached(o, rows) != nil {
		t.Error("found in a broken index")
	}
	must(t, record(o, rows, FromDownload, b.Digest))
	if cached(o, rows) == nil {
		t.Error("a broken index is not made anew")
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := lock(t.Context(), dir, func() { t.Error("waits for nobody") })
	must(t, err)

	impatient, cancel := context.WithCancel(t.Context())
	_, err = lock(impatient, dir, cancel)
	wantError(t, err, dir, "context canceled")

	waiting, got := make(chan struct{}), make(chan error, 1)
	go func() {
		second, err := lock(t.Context(), dir, func() { close(waiting) })
		if err == nil {
			second()
		}
		got <- err
	}()
	<-waiting
	select {
	case err := <-got:
		t.Fatalf("two hold the lock: %v", err)
	default:
	}
	first()
	select {
	case err := <-got:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the lock was not passed on")
	}
}

func TestSelf(t *testing.T) {
	dir := t.TempDir()
	a, at, err := Self(dir)
	must(t, err)
	file := filepath.Join(at, a.Path)
	if a.Name != "slipway" || at != filepath.Join(dir, "bundles", "slipway-"+a.SHA256[:16]) || file != filepath.Join(at, "bin/slipway") {
		t.Errorf("%+v in %s", a, at)
	}
	executable, err := os.Executable()
	must(t, err)
	want, err := fileDigest(t.Context(), executable)
	must(t, err)
	if got, err := fileDigest(t.Context(), file); err != nil || got != want || a.SHA256 != want {
		t.Errorf("the copy has %s (%v), the artifact says %s, the executable has %s", got, err, a.SHA256, want)
	}
	must(t, exec.Command(file, "-test.run", "^$").Run())

	start := time.Now()
	again, _, err := Self(dir)
	must(t, err)
	t.Logf("again in %s", time.Since(start))
	if again != a {
		t.Errorf("%+v, then %+v", a, again)
	}
	must(t, os.Truncate(file, 10)) // a copy that was damaged is made anew
	_, _, err = Self(dir)
	must(t, err)
	must(t, a.present(file))
}

// The memo is of one file in one state: another is hashed.
func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	program, memo := filepath.Join(dir, "program"), filepath.Join(dir, "memo")
	must(t, os.WriteFile(program, []byte("one"), 0o755))
	one, err := identify(program, memo)
	must(t, err)
	info, err := os.Stat(program)
	must(t, err)
	must(t, os.WriteFile(program, []byte("two"), 0o755))
	must(t, os.Chtimes(program, time.Time{}, info.ModTime()))
	if same, err := identify(program, memo); err != nil || same != one {
		t.Errorf("hashed what looks the same: %+v, %v", same, err)
	}
	must(t, os.Chtimes(program, time.Time{}, info.ModTime().Add(time.Second)))
	if two, err := identify(program, memo); err != nil || two.SHA256 != bytesDigest([]byte("two")) {
		t.Errorf("%+v, %v", two, err)
	}
}
