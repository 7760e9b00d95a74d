package converge

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// mirror is a web server with all programs of a fleet, but slipway.
type mirror struct {
	*httptest.Server
	dir   string
	names map[string]string // of the files, by program

	mu    sync.Mutex
	asked map[string][]string // the ranges that were asked for, by program
}

// mirrored gives a fleet a mirror. handle, if it is not nil, may answer in its place.
func (f *fleet) mirrored(t *testing.T, handle func(program string, w http.ResponseWriter, r *http.Request) bool) *mirror {
	t.Helper()
	m := &mirror{dir: t.TempDir(), names: map[string]string{}, asked: map[string][]string{}}
	programs := map[string]string{}
	for where, file := range f.files {
		if where == slipwayPath {
			continue
		}
		blob, err := delivery.NewPacker(f.Packed).Pack(t.Context(), file.Local, file.Digest, delivery.Zstd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := delivery.Publish(t.Context(), blob, m.dir); err != nil {
			t.Fatal(err)
		}
		programs["/deep/"+blob.Name()], m.names[filepath.Base(where)] = filepath.Base(where), blob.Name()
	}
	files := http.StripPrefix("/deep", http.FileServer(http.Dir(m.dir)))
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		program := programs[r.URL.Path]
		m.mu.Lock()
		m.asked[program] = append(m.asked[program], r.Header.Get("Range"))
		m.mu.Unlock()
		if handle == nil || !handle(program, w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(m.Close)
	f.Input.Cluster = &spec.Cluster{}
	f.Input.Cluster.Spec.Bundle.URL = m.URL + "/deep/"
	return m
}

// ranges are those that hosts asked for, of a program.
func (m *mirror) ranges(program string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked[program])
}

// fetched is how often hosts took a program from another host.
func (f *fleet) fetched(program string) (n int) {
	for _, h := range f.hosts {
		for _, name := range f.names {
			n += h.times("# fetch " + program + " from " + name)
		}
	}
	return n
}

// TestDeliveryFromMirror: this computer sends slipway once, and each host fetches the rest itself.
func TestDeliveryFromMirror(t *testing.T) {
	f := newFleet(t, 4)
	m := f.mirrored(t, nil)
	f.deliver(t)
	if n := f.received("slipway"); n != 1 {
		t.Errorf("this computer sent slipway %d times", n)
	}
	for _, program := range []string{"one", "two"} {
		if sent, fetched, asked := f.received(program), f.fetched(program), len(m.ranges(program)); sent+fetched > 0 || asked != 4 {
			t.Errorf("%s: this computer sent it %d times, other hosts %d times, the mirror was asked %d times", program, sent, fetched, asked)
		}
	}
	if len(f.told) > 0 {
		t.Errorf("it told %q", f.told)
	}
}

// TestMirrorThatFails is named, once, with the reason; and the hosts get everything, from this
// computer once.
func TestMirrorThatFails(t *testing.T) {
	for what, tt := range map[string]struct {
		handle func(w http.ResponseWriter, r *http.Request, size int64)
		told   string
	}{
		"missing": {
			func(w http.ResponseWriter, r *http.Request, _ int64) { http.NotFound(w, r) },
			"the mirror MIRROR does not give two (404 Not Found): ",
		},
		"other bytes": {func(w http.ResponseWriter, _ *http.Request, size int64) {
			_, _ = w.Write(make([]byte, size))
		}, "the mirror MIRROR gave two with another content than it should have (its SHA-256 is not SUM): none of it was used"},
		"without end": {func(w http.ResponseWriter, r *http.Request, _ int64) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "the mirror MIRROR gave two with another content than it should have (its SHA-256 is not SUM): none of it was used"},
		"other size": {
			func(w http.ResponseWriter, _ *http.Request, _ int64) { _, _ = w.Write([]byte("log in first")) },
			"the mirror MIRROR gave two with another content than it should have (the file there has 12 bytes, want ",
		},
		"gone": {
			func(w http.ResponseWriter, _ *http.Request, _ int64) { w.WriteHeader(http.StatusTeapot) },
			"the mirror MIRROR fails on host-",
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, 3)
			var m *mirror
			m = f.mirrored(t, func(program string, w http.ResponseWriter, r *http.Request) bool {
				if program != "two" {
					return false
				}
				info, err := os.Stat(filepath.Join(m.dir, m.names[program]))
				if err != nil {
					t.Error(err)
					return false
				}
				tt.handle(w, r, info.Size())
				return true
			})
			f.deliver(t)
			blob, _ := delivery.ParseName(m.names["two"])
			want := strings.NewReplacer("MIRROR", m.URL+"/deep/", "SUM", blob.Sum).Replace(tt.told)
			if len(f.told) != 1 || !strings.HasPrefix(f.told[0], want) {
				t.Errorf("it told %q, want %q", f.told, want)
			}
			if n := f.received("two"); n != 1 {
				t.Errorf("this computer sent it %d times", n)
			}
			if n := len(m.ranges("two")); n > 3 {
				t.Errorf("the mirror was asked %d times", n)
			}
		})
	}
}

// TestMirrorThatOneHostDoesNotReach: it gets all from the others, and this computer sends nothing.
func TestMirrorThatOneHostDoesNotReach(t *testing.T) {
	f := newFleet(t, 3)
	m := f.mirrored(t, nil)
	f.before("# fetch", func(on *rooted, title string, cmd *host.Cmd) {
		if on == f.hosts["host-2"] && strings.HasSuffix(title, " from the mirror") {
			cmd.Script = strings.ReplaceAll(cmd.Script, m.URL, "http://127.0.0.1:1")
		}
	})
	f.deliver(t)
	if n := f.received("one") + f.received("two"); n > 0 {
		t.Errorf("this computer sent %d programs", n)
	}
	if len(f.told) != 1 || !strings.Contains(f.told[0], " fails on host-2 (dial tcp 127.0.0.1:1: connect: connection refused)") {
		t.Errorf("it told %q", f.told)
	}
}

// TestMirrorContinues where an earlier run was broken off.
func TestMirrorContinues(t *testing.T) {
	f := newFleet(t, 1)
	m := f.mirrored(t, nil)
	packed, err := os.ReadFile(filepath.Join(m.dir, m.names["two"]))
	if err != nil {
		t.Fatal(err)
	}
	f.hosts["host-1"].put(t, partsDir+"/"+m.names["two"], string(packed[:1000]))
	f.deliver(t)
	if asked := m.ranges("two"); len(asked) != 1 || asked[0] != "bytes=1000-" || f.received("two") > 0 {
		t.Errorf("it asked for %q", asked)
	}
}

// TestHostThatFailsBesideAMirror is to blame itself.
func TestHostThatFailsBesideAMirror(t *testing.T) {
	f := newFleet(t, 2)
	f.mirrored(t, nil)
	f.before("# fetch", func(on *rooted, title string, cmd *host.Cmd) {
		if on == f.hosts["host-1"] && strings.HasSuffix(title, " from the mirror") {
			cmd.Script = "echo No space left on device >&2; exit 1"
		}
	})
	err := f.run(t)
	if err == nil || !strings.Contains(err.Error(), "host-1") || strings.Contains(err.Error(), "host-2") || len(f.told) > 0 {
		t.Errorf("got %v, told %q", err, f.told)
	}
	for p, want := range f.files {
		if stack.Digest(f.hosts["host-2"].read(t, arriving(p))) != want.Digest {
			t.Errorf("host-2 has another %s", p)
		}
	}
}

// TestURLOfAMirrorIsQuoted: it becomes part of a script that root runs.
func TestURLOfAMirrorIsQuoted(t *testing.T) {
	f := newFleet(t, 1)
	m := f.mirrored(t, nil)
	taken := filepath.Join(t.TempDir(), "taken")
	f.Input.Cluster.Spec.Bundle.URL = m.URL + "/x'$(touch " + taken + ")'; touch " + taken + "; '"
	f.deliver(t)
	if _, err := os.Stat(taken); err == nil {
		t.Error("a command ran")
	}
}

// TestFailuresOfMirrors tells those of one program from those of the whole mirror.
func TestFailuresOfMirrors(t *testing.T) {
	code := func(n int) error { return &host.ExitError{Code: n} }
	for _, tt := range []struct {
		err    error
		givers []string
		want   delivery.Failure
	}{
		{&mirrorError{delivery.FetchFailed, errSlow.Error(), errSlow}, nil, delivery.Unreachable},
		{&mirrorError{delivery.FetchFailed, "", code(incomplete)}, nil, delivery.Unreachable},
		{&mirrorError{delivery.FetchMissing, "", code(incomplete)}, nil, delivery.Missing},
		{&mirrorError{delivery.FetchWrong, "", code(incomplete)}, nil, delivery.Missing},
		{code(otherContent), []string{delivery.Mirror}, delivery.Lied},
		{code(otherContent), []string{delivery.Mirror, earlier}, delivery.Mixed},
		{code(1), nil, delivery.Broken},
		{errors.New("the line is cut"), nil, delivery.Broken},
	} {
		p := &parcel{courier: newCourier(&Runner{}, 2), progress: newProgress(nil), givers: map[string]map[string]bool{"k": {}}, mistook: map[string]int{}}
		for _, giver := range tt.givers {
			p.givers["k"][giver] = true
		}
		if got := p.judge(t.Context(), delivery.Job{Host: "a", Blob: "k", From: delivery.Mirror}, fmt.Errorf("run: %w", tt.err)); got != tt.want {
			t.Errorf("%v by %q: %v, want %v", tt.err, tt.givers, got, tt.want)
		}
	}
}

// TestMirrorThatBeganAgain gave the program alone, whoever gave what was there.
func TestMirrorThatBeganAgain(t *testing.T) {
	p := &parcel{courier: newCourier(&Runner{}, 2), progress: newProgress(nil), givers: map[string]map[string]bool{"k": {earlier: true}}}
	p.mirrorGave("k", 1000, 1000)
	if len(p.givers["k"]) != 1 || !p.givers["k"][earlier] {
		t.Errorf("nothing was given by %v", p.givers["k"])
	}
	p.mirrorGave("k", 1000, 0)
	p.mirrorGave("k", 0, 500)
	if len(p.givers["k"]) != 1 || !p.givers["k"][delivery.Mirror] || p.progress.of("k") != 500 {
		t.Errorf("given by %v", p.givers["k"])
	}
}
