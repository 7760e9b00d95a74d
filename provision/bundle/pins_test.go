package bundle

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pinsOf are the digests of what is published.
func pinsOf(t *testing.T, rows []recipe, files map[string][]byte) Pins {
	t.Helper()
	pins := Pins{}
	for _, r := range rows {
		if r.C != nil {
			continue
		}
		for _, file := range r.remotes("amd64") {
			pins[file.path] = bytesDigest(files[file.path])
		}
	}
	return pins
}

func withoutBuiltInPins(t *testing.T) {
	t.Helper()
	own := builtInPins
	builtInPins = func() (Pins, error) { return Pins{}, nil }
	t.Cleanup(func() { builtInPins = own })
}

// Every pin that comes with slipway is of a file that some recipe downloads.
func TestBuiltInPins(t *testing.T) {
	pins, err := builtInPins()
	must(t, err)
	rows, err := recipesFor(Versions()[0])
	must(t, err)
	known := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		for _, r := range rows {
			if r.C == nil {
				for _, file := range r.remotes(arch) {
					known[file.path] = true
				}
			}
		}
	}
	for at := range pins {
		if !known[at] {
			t.Errorf("no recipe downloads %s", at)
		}
	}
	if at := "release/v1.36.3/bin/linux/amd64/kubelet"; pins[at] == "" {
		t.Errorf("%s is not pinned", at)
	}
}

func TestDownloadIsHeldAgainstPins(t *testing.T) {
	rows := rowsNamed(t, "runc", "cni-plugins")
	download := func(t *testing.T, server *upstreamServer, change func(*Options)) (Pins, error) {
		t.Helper()
		withoutBuiltInPins(t)
		var learned Pins
		o := Options{CacheDir: t.TempDir(), Mirror: server.URL, Arch: "amd64", Learned: func(p Pins) error { learned = maps.Clone(p); return nil }}
		change(&o)
		o, err := o.complete()
		must(t, err)
		b, err := downloadRows(t.Context(), o, rows, newDownloader(o))
		if err == nil {
			must(t, b.Verify(t.Context()))
		} else if bundles, _ := List(o.CacheDir); len(bundles) != 0 {
			t.Error("there is a bundle all the same")
		}
		return learned, err
	}
	files := published(t, rows)

	t.Run("none", func(t *testing.T) {
		server := serve(t, files)
		_, err := download(t, server, func(*Options) {})
		var unpinned *UnpinnedError
		if !errors.As(err, &unpinned) || len(unpinned.Files) != 2 || unpinned.Files[1] != runcFile {
			t.Fatalf("%v", err)
		}
		if len(server.requests) != 0 {
			t.Errorf("asked %q all the same", server.requests)
		}
	})
	t.Run("all, and nothing that is published is asked for", func(t *testing.T) {
		server := serve(t, files)
		learned, err := download(t, server, func(o *Options) { o.Pins = pinsOf(t, rows, files) })
		must(t, err)
		if len(learned) != 0 || len(server.asked(runcDigest)) != 0 {
			t.Errorf("learned %v, asked %q", learned, server.requests)
		}
	})
	t.Run("a site that changed both file and digest", func(t *testing.T) {
		other := maps.Clone(files)
		other[runcFile] = []byte("evil")
		other[runcDigest] = []byte(bytesDigest(other[runcFile]) + "  runc.amd64\n")
		for _, trust := range []bool{false, true} {
			_, err := download(t, serve(t, other), func(o *Options) { o.Pins, o.TrustPublished = pinsOf(t, rows, files), trust })
			wantError(t, err, runcFile, bytesDigest(other[runcFile]), "is pinned for it")
		}
	})
	t.Run("trusted on first use, then kept to", func(t *testing.T) {
		learned, err := download(t, serve(t, files), func(o *Options) { o.TrustPublished = true })
		must(t, err)
		if !maps.Equal(learned, pinsOf(t, rows, files)) {
			t.Fatalf("learned %v", learned)
		}
		lock := filepath.Join(t.TempDir(), "bundle.lock")
		must(t, WritePins(lock, learned))
		read, err := ReadPins(lock)
		must(t, err)
		_, err = download(t, serve(t, files), func(o *Options) { o.Pins = read })
		must(t, err)
	})
}

// What was downloaded by other digests, or by none, does not answer for what is pinned now.
func TestPinsArePartOfTheRequest(t *testing.T) {
	b, o := makeBundle(t)
	rows := rowsNamed(t, "runc")
	o.pins = &pinSet{pins: Pins{}}
	must(t, record(o, rows, FromDownload, b.Digest))
	if cached(t.Context(), o, rows) == nil {
		t.Fatal("not found")
	}
	o.pins = &pinSet{pins: Pins{"opencontainers/runc/releases/download/v1.5.2/runc." + o.Arch: strings.Repeat("a", 64)}}
	if cached(t.Context(), o, rows) != nil {
		t.Error("found, though it was downloaded without this pin")
	}
}

func TestReadPins(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	pins, err := parsePins("# why\n"+strings.ToUpper(a)+"  x/y # and where\n\n"+b+" *z\n"+b+"  ./z\n", "f")
	if err != nil || !maps.Equal(pins, Pins{"x/y": a, "z": b}) {
		t.Errorf("%v, %v", pins, err)
	}
	for content, want := range map[string]string{
		a[1:] + "  x\n":             "f:1: want a SHA-256",
		"\n" + a + "\n":             "f:2: want a SHA-256",
		a + "  x\n" + b + "  ./x\n": "f:2: x has another SHA-256",
	} {
		_, err := parsePins(content, "f")
		wantError(t, err, want)
	}
	if pins, err := ReadPins(filepath.Join(t.TempDir(), "none")); len(pins) != 0 || err != nil {
		t.Errorf("%v, %v", pins, err)
	}
	if _, err := ReadPins(t.TempDir()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
	_, err = newPinSet(Pins{"x": a}, Pins{"x": b})
	wantError(t, err, "x: the SHA-256 given for it, "+b)
}

func TestMirrorWithoutTLS(t *testing.T) {
	for mirror, refused := range map[string]bool{
		"": false, "/media/usb": false, "file:///media/usb": false, "https://mirror.example.com": false,
		"http://127.0.0.1:8080": false, "http://[::1]/x": false, "http://localhost/": false,
		"http://mirror.example.com/": true, "HTTP://10.0.0.1": true, "http://localhost.example.com": true,
	} {
		_, err := Options{CacheDir: t.TempDir(), Mirror: mirror}.complete()
		if (err != nil) != refused {
			t.Errorf("%q: %v", mirror, err)
		}
		if _, err := (Options{CacheDir: t.TempDir(), Mirror: mirror, InsecureHTTP: true}).complete(); err != nil {
			t.Errorf("%q, allowed: %v", mirror, err)
		}
	}
}
