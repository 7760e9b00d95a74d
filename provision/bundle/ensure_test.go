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

	// What was changed behind slipway's back is found, though its size and time are as before. The component shares the
	// bytes, so it is made anew, or put back from the component where that is whole.
	server = serve(t, files)
	o.Mirror = server.URL
	for name, tamper := range map[string]func(file string){
		"in place": func(file string) { must(t, os.WriteFile(file, evil(t, file), 0o755)) },
		"replaced": func(file string) {
			must(t, os.WriteFile(file+"2", evil(t, file), 0o755))
			must(t, os.Rename(file+"2", file))
		},
	} {
		file := b.File(kubelet)
		info, err := os.Stat(file)
		must(t, err)
		tamper(file)
		must(t, os.Chtimes(file, time.Time{}, info.ModTime()))
		events = nil
		repaired, err := Ensure(t.Context(), o)
		must(t, err)
		must(t, repaired.Verify(t.Context()))
		if len(events) == 0 || events[0].Phase != Damaged || !strings.Contains(events[0].Detail, file+" has the SHA-256") {
			t.Errorf("%s: %v", name, events)
		}
	}
}

// evil is other content of the same size.
func evil(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	content[0]++
	return content
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
	if got := cached(t.Context(), o, rows); got == nil || got.Digest != b.Digest {
		t.Fatalf("not found: %+v", got)
	}
	changed := slices.Clone(rows)
	changed[0].Version = "v0.0.1"
	changed[0].Module = rows[0].module()
	other := o
	other.Arch = "s390x"
	download := o
	download.Source = FromDownload
	if cached(t.Context(), o, changed) != nil || cached(t.Context(), other, rows) != nil || cached(t.Context(), download, rows) != nil {
		t.Error("found for another request")
	}
	must(t, os.WriteFile(indexFile(o), []byte("rubbish"), 0o644))
	if cached(t.Context(), o, rows) != nil {
		t.Error("found in a broken index")
	}
	must(t, record(o, rows, FromDownload, b.Digest))
	if cached(t.Context(), o, rows) == nil {
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

// The memo is of one file in one state: another is read. A change that keeps size and time of modification is one too.
func TestDigestsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	must(t, os.WriteFile(program, []byte("one"), 0o755))
	memo := openDigests(dir)
	sum, err := memo.of(t.Context(), program)
	must(t, err)
	if sum != bytesDigest([]byte("one")) || len(memo.known) != 0 {
		t.Errorf("%s; what has only just changed is remembered: %v", sum, memo.known)
	}
	memo.known[Identity(program)] = bytesDigest([]byte("remembered"))
	memo.news = true
	must(t, memo.save())
	memo = openDigests(dir)
	if sum, err := memo.of(t.Context(), program); err != nil || sum != bytesDigest([]byte("remembered")) {
		t.Errorf("read again: %s, %v", sum, err)
	}
	info, err := os.Stat(program)
	must(t, err)
	for start := time.Now(); Identity(program) == onlyKey(memo.known) && time.Since(start) < 10*time.Second; {
		must(t, os.WriteFile(program, []byte("two"), 0o755)) // until the file system's clock has ticked
		must(t, os.Chtimes(program, time.Time{}, info.ModTime()))
	}
	if sum, err := memo.of(t.Context(), program); err != nil || sum != bytesDigest([]byte("two")) {
		t.Errorf("not read: %s, %v", sum, err)
	}
	must(t, os.WriteFile(memo.file, []byte("rubbish"), 0o600))
	if memo := openDigests(dir); len(memo.known) != 0 {
		t.Errorf("a broken memo has %v", memo.known)
	}
	if out, err := exec.Command("find", program, "-printf", "@%D:%i:%s:%T@:%C@").Output(); err == nil && string(out) != Identity(program) {
		t.Errorf("find says %s, and we %s", out, Identity(program))
	}
}

func onlyKey(m map[string]string) string {
	for key := range m {
		return key
	}
	return ""
}
