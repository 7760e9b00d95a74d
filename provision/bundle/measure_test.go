package bundle

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallModule writes a module of two programs that use 20 packages, which no cache of Go has.
func smallModule(t *testing.T) *goBuild {
	t.Helper()
	dir := t.TempDir()
	write := func(name, format string, values ...any) {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o750))
		must(t, os.WriteFile(file, fmt.Appendf(nil, format, values...), 0o600))
	}
	write("go.mod", "module example.com/small\n\ngo 1.26.0\n")
	var imports strings.Builder
	for i := range 20 {
		write(fmt.Sprintf("p%d/p.go", i), "package p%d\n\nconst Made = %d\n", i, time.Now().UnixNano())
		fmt.Fprintf(&imports, "import _ \"example.com/small/p%d\"\n", i)
	}
	for _, name := range []string{"one", "two"} {
		write(name+"/main.go", "package main\n\n%s\nfunc main() {}\n", imports.String())
	}
	return &goBuild{
		dir: dir, env: goEnv(runtime.GOARCH, false), flags: []string{"-trimpath", "-buildvcs=false"},
		packages: []string{"example.com/small/one", "example.com/small/two"},
	}
}

// A build says before it begins how many packages it compiles, counts each, and then the programs. What is in the cache
// is not counted.
func TestGoBuildIsMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	g := smallModule(t)
	var told []Event
	g.report = func(phase Phase, done, total int64) {
		told = append(told, Event{Phase: phase, Done: done, Total: total})
	}
	g.list(t.Context())
	own := 0
	for name, counts := range g.known {
		if strings.HasPrefix(name, "example.com/small/p") && counts {
			own++
		}
	}
	if own != 20 || len(told) > 0 {
		t.Fatalf("%d of its 20 packages are to be compiled, and before that was told %v", own, told)
	}
	must(t, g.run(t.Context(), t.TempDir(), "-ldflags", "-s"))
	for i := range g.total {
		if want := (Event{Phase: Compiling, Done: i, Total: g.total}); told[i] != want {
			t.Errorf("event %d is %v, want %v", i, told[i], want)
		}
	}
	if last := told[len(told)-1]; last != (Event{Phase: Linking, Done: 2, Total: 2}) {
		t.Errorf("the last event is %v", last)
	}

	g.total, g.begun, told = 0, 0, nil
	g.list(t.Context())
	must(t, g.run(t.Context(), t.TempDir()))
	if slices.ContainsFunc(told, func(e Event) bool { return e.Phase != Linking }) {
		t.Errorf("with all packages in the cache: %v", told)
	}
}

// The error of a build has what the compiler said, without the names of packages that are only counted.
func TestMeasuredBuildFails(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	g := smallModule(t)
	g.report = func(Phase, int64, int64) {}
	must(t, os.WriteFile(filepath.Join(g.dir, "p7", "p.go"), []byte("package p7\n\nvar x int = \"seven\"\n"), 0o600))
	g.list(t.Context())
	err := g.run(t.Context(), t.TempDir())
	wantError(t, err, "# example.com/small/p7", "p7/p.go:3:13: cannot use")
	if strings.Contains(err.Error(), "\nexample.com/small/p") {
		t.Errorf("it has names of packages:\n%v", err)
	}
}

func TestEventText(t *testing.T) {
	for _, test := range []struct {
		event Event
		want  string
	}{
		{Event{Component: "etcd", Version: "v3", Phase: Compiling, Done: 512, Total: 1480}, "etcd v3: compiling: 512 of 1,480 packages"},
		{Event{Component: "etcd", Version: "v3", Phase: Fetching, Done: 37}, "etcd v3: fetching: 37 Go modules"},
		{Event{Component: "etcd", Version: "v3", Phase: Linking, Total: 3}, "etcd v3: linking: 0 of 3 programs"},
		{Event{Component: "etcd", Version: "v3", Phase: Downloading, Done: 12345678, Total: 1234567890, Detail: "e.tgz"}, "etcd v3: downloading: 12.3 of 1234.6 MB: e.tgz"},
		{Event{Component: "etcd", Version: "v3", Phase: Downloading, Detail: "e.tgz"}, "etcd v3: downloading: e.tgz"},
		{Event{Component: "etcd", Version: "v3", Phase: Done, Elapsed: 90 * time.Second}, "etcd v3: done (1m30s)"},
		{Event{Phase: Choosing, Detail: "building"}, "bundle: choosing: building"},
	} {
		if got := test.event.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// A log gets each phase of each component, and of 1,000 measures a line for each tenth.
func TestSparingly(t *testing.T) {
	var lines []string
	report := Sparingly(func(e Event) { lines = append(lines, e.String()) })
	report(Event{Component: "a", Phase: Building})
	for i := range int64(1001) {
		report(Event{Component: "a", Phase: Compiling, Done: i, Total: 1000})
		report(Event{Component: "b", Phase: Fetching, Done: i / 10})
	}
	report(Event{Component: "a", Phase: Done})
	of := func(prefix string) (n int) {
		for _, line := range lines {
			if strings.HasPrefix(line, prefix) {
				n++
			}
		}
		return n
	}
	if of("a : building") != 1 || of("a : compiling") != 11 || of("b : fetching") != 3 || of("a : done") != 1 || len(lines) != 16 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

// Bytes are reported at each percent, from where a transfer is resumed.
func TestMeter(t *testing.T) {
	var seen []int64
	m := &meter{
		Reader: sevenBytes{bytes.NewReader(make([]byte, 800))}, done: 200, total: 1000,
		report: func(done, total int64) {
			if total != 1000 {
				t.Errorf("total %d", total)
			}
			seen = append(seen, done)
		},
	}
	_, err := io.Copy(io.Discard, m)
	must(t, err)
	if len(seen) != 81 || seen[0] != 207 || seen[80] != 1000 {
		t.Errorf("%d reports: %v", len(seen), seen)
	}
}

// A site says how large a file is, also when it is resumed.
func TestReceiveReports(t *testing.T) {
	content := make([]byte, 3000)
	server := serve(t, map[string][]byte{"dir/x": content})
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "dir"), 0o750))
	must(t, os.WriteFile(filepath.Join(dir, "dir", "x"), content, 0o600))
	for _, mirror := range []string{server.URL, dir} {
		for _, have := range []int64{0, 1000} {
			out, err := os.Create(filepath.Join(t.TempDir(), "x"))
			must(t, err)
			must(t, out.Truncate(have))
			var last [2]int64
			must(t, receive(t.Context(), sites(mirror)(""), "dir/x", out, func(done, total int64) { last = [2]int64{done, total} }))
			must(t, out.Close())
			if last != [2]int64{3000, 3000} {
				t.Errorf("%s from %d on: %v", mirror, have, last)
			}
		}
	}
}

// sevenBytes reads seven bytes at a time.
type sevenBytes struct{ io.Reader }

func (r sevenBytes) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(7, len(p))]) }
