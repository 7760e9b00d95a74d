package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fetching is a directory where a blob of 1 MB arrives from a server.
type fetching struct {
	data []byte
	url  string
	out  bytes.Buffer

	mu     sync.Mutex
	ranges []string // of the requests, in order
}

const blobName = "0123.4567.zst"

// fetchingFrom fetches from a mirror with one handler.
func fetchingFrom(t *testing.T, handle func(f *fetching, w http.ResponseWriter, r *http.Request)) *fetching {
	t.Helper()
	_, _, data := content(t, 1<<20)
	f := &fetching{data: data[:1<<20]}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.ranges = append(f.ranges, r.Header.Get("Range"))
		f.mu.Unlock()
		handle(f, w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL + "/deep/" + blobName
	t.Chdir(t.TempDir())
	return f
}

// whole serves the blob, with ranges.
func whole(f *fetching, w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

func (f *fetching) has(t *testing.T, data []byte) {
	t.Helper()
	if err := os.WriteFile(blobName, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fetching) run(t *testing.T) {
	t.Helper()
	if err := Fetch(t.Context(), f.url, int64(len(f.data)), nil, &f.out); err != nil {
		t.Fatal(err)
	}
}

// said is the last line of the output.
func (f *fetching) said() string {
	lines := strings.Split(strings.TrimSpace(f.out.String()), "\n")
	return lines[len(lines)-1]
}

func (f *fetching) expect(t *testing.T, said string, data []byte) {
	t.Helper()
	if !strings.HasPrefix(f.said(), said) {
		t.Errorf("it said %q, want %q", f.out.String(), said)
	}
	got, err := os.ReadFile(blobName)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("there are %d bytes, want %d: %v", len(got), len(data), err)
	}
}

// impatiently makes the pauses short.
func impatiently(t *testing.T) {
	t.Helper()
	old := retryPauses
	retryPauses = []time.Duration{1, 1, 1}
	t.Cleanup(func() { retryPauses = old })
}

func TestFetch(t *testing.T) {
	f := fetchingFrom(t, whole)
	f.run(t)
	f.expect(t, "at 1048576", f.data)
	f.run(t) // it is whole: nobody is asked
	if len(f.ranges) != 1 {
		t.Errorf("it asked %d times", len(f.ranges))
	}
}

// TestFetchContinues after what is there, and after what broke off.
func TestFetchContinues(t *testing.T) {
	impatiently(t)
	f := fetchingFrom(t, func(f *fetching, w http.ResponseWriter, r *http.Request) {
		if f.ranges[len(f.ranges)-1] == "bytes=1000-" { // the first: half of it, and the line is cut
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1000-%d/%d", len(f.data)-1, len(f.data)))
			w.Header().Set("Content-Length", strconv.Itoa(len(f.data)-1000))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(f.data[1000:5000])
			return
		}
		whole(f, w, r)
	})
	f.has(t, f.data[:1000])
	f.run(t)
	f.expect(t, "at 1048576", f.data)
	if got := strings.Join(f.ranges, " "); got != "bytes=1000- bytes=5000-" {
		t.Errorf("it asked for %q", got)
	}
	if !strings.Contains(f.out.String(), "at 5000\nretries it broke off: unexpected EOF\n") {
		t.Errorf("it said %q", f.out.String())
	}
}

// TestFetchWithoutRanges begins again: a server may not know them.
func TestFetchWithoutRanges(t *testing.T) {
	f := fetchingFrom(t, func(f *fetching, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.data) })
	f.has(t, []byte("something else"))
	f.run(t)
	f.expect(t, "at 1048576", f.data)
}

// TestFetchOfWhatIsNotThere: the line says whose fault it is, and what was there stays.
func TestFetchOfWhatIsNotThere(t *testing.T) {
	impatiently(t)
	answer := func(code int) func(*fetching, http.ResponseWriter, *http.Request) {
		return func(_ *fetching, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "go\nto <b>hell</b>", code)
		}
	}
	for _, tt := range []struct {
		what   string
		handle func(*fetching, http.ResponseWriter, *http.Request)
		said   string
		asked  int
	}{
		{"missing", answer(404), "missing 404 Not Found", 1},
		{"forbidden", answer(403), "missing 403 Forbidden", 1},
		{"a web page", func(_ *fetching, w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>log in</html>"))
		}, "wrong the file there has 19 bytes, want 1048576", 1},
		{"shorter", func(f *fetching, w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data[:500]))
		}, "wrong the file there has no more than 1000 bytes, want 1048576", 1},
		{"longer", func(f *fetching, w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(bytes.Clone(f.data), 1)))
		}, "wrong the file there has 1048577 bytes, want 1048576", 1},
		{"another range", func(_ *fetching, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-999/1048576")
			w.WriteHeader(http.StatusPartialContent)
		}, "failed it gave another range than bytes from 1000", 1},
		{"busy", answer(503), "failed it answers 503 Service Unavailable", 4},
		{"odd", answer(418), "failed it answers 418 I'm a teapot", 1},
		{"elsewhere", func(_ *fetching, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "ftp://user:SECRET@mirror.example/?signature=SECRET", http.StatusFound)
		}, `failed it redirects to "ftp://", which is neither http nor https`, 1},
		{"in a circle", func(_ *fetching, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"?signature=SECRET", http.StatusFound)
		}, "failed it redirects more than 10 times", 10},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := fetchingFrom(t, tt.handle)
			f.has(t, f.data[:1000])
			f.run(t)
			f.expect(t, tt.said, f.data[:1000])
			if len(f.ranges) != tt.asked || strings.Contains(f.out.String(), "SECRET") {
				t.Errorf("it asked %d times, want %d, and said %q", len(f.ranges), tt.asked, f.out.String())
			}
		})
	}
}

// TestFetchOfLongAnswers: what a server puts into a reason is cut, since a line that is too long is taken
// for the failure of the machine itself.
func TestFetchOfLongAnswers(t *testing.T) {
	impatiently(t)
	long := strings.Repeat("x", 20<<10)
	for what, handle := range map[string]func(*fetching, http.ResponseWriter, *http.Request){
		"location": func(_ *fetching, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[/"+long)
			w.WriteHeader(http.StatusFound)
		},
		"no HTTP": func(_ *fetching, w http.ResponseWriter, _ *http.Request) {
			line, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = line.Write([]byte(long + "\r\n\r\n"))
			_ = line.Close()
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := fetchingFrom(t, handle)
			f.run(t)
			f.expect(t, FetchFailed+" ", nil)
			for line := range strings.Lines(f.out.String()) {
				if len(line) > 1<<10 {
					t.Errorf("it said a line of %d bytes: %.100q", len(line), line)
				}
			}
		})
	}
}

// TestFetchFromNobody: the reason is the same on every host.
func TestFetchFromNobody(t *testing.T) {
	f := fetchingFrom(t, whole)
	f.url = "http://127.0.0.1:1/" + blobName
	f.run(t)
	f.expect(t, "failed dial tcp 127.0.0.1:1: connect: connection refused", nil)

	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	f.url = secure.URL + "/" + blobName
	f.run(t)
	f.expect(t, "failed tls: failed to verify certificate", nil)
}

// TestFetchFromHTTPSIsNotSentToHTTP, whoever listens there.
func TestFetchFromHTTPSIsNotSentToHTTP(t *testing.T) {
	check := mirrorClient(nil).CheckRedirect
	request := func(at string) *http.Request { return httptest.NewRequest(http.MethodGet, at, nil) }
	if err := check(request("http://b"), []*http.Request{request("https://a")}); err == nil {
		t.Error("from https to http")
	}
	if err := check(request("https://b"), []*http.Request{request("http://a")}); err != nil {
		t.Errorf("from http to https: %v", err)
	}
}

// TestFetchOfWhatNeverEnds takes no more than there should be.
func TestFetchOfWhatNeverEnds(t *testing.T) {
	f := fetchingFrom(t, func(_ *fetching, w http.ResponseWriter, r *http.Request) {
		for junk := make([]byte, 1<<16); r.Context().Err() == nil; {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	})
	f.run(t)
	f.expect(t, "at 1048576", make([]byte, 1<<20))
}

// TestFetchOfWhatStandsStill ends.
func TestFetchOfWhatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		stall := time.AfterFunc(stalled, func() { cancel(errors.New("nothing came for 30s")) })
		f := &fetch{size: 10, part: part, out: &out}
		var r *refusal
		err = f.copy(ctx, still{ctx}, 5, stall)
		if !errors.As(err, &r) || r.why != "it broke off: nothing came for 30s" {
			t.Errorf("got %v", err)
		}
		_ = part.Close()
	})
}

// still is content that does not come.
type still struct{ context.Context }

func (s still) Read([]byte) (int, error) {
	<-s.Done()
	return 0, s.Err()
}

// TestFetchThroughAProxy asks the proxy for the whole URL.
func TestFetchThroughAProxy(t *testing.T) {
	var asked string
	f := fetchingFrom(t, func(f *fetching, w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		whole(f, w, r)
	})
	at, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = ""
	if err := Fetch(t.Context(), "http://mirror.invalid/"+blobName, int64(len(f.data)), http.ProxyURL(at), &f.out); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "at 1048576", f.data)
	if asked != "http://mirror.invalid/"+blobName {
		t.Errorf("it asked the proxy for %q", asked)
	}
}

// TestFetchToAFullDisk is the machine's own error, not the mirror's.
func TestFetchToAFullDisk(t *testing.T) {
	f := fetchingFrom(t, whole)
	if err := os.Symlink("/dev/full", blobName); err != nil {
		t.Fatal(err)
	}
	err := Fetch(t.Context(), f.url, int64(len(f.data)), nil, &f.out)
	if err == nil {
		t.Errorf("no error, it said %q", f.out.String())
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Fetch(over, f.url, 1, nil, &f.out); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestPublish only adds to a mirror, and puts right what is damaged there.
func TestPublish(t *testing.T) {
	file, sum, _ := content(t, 100000)
	b, err := NewPacker(t.TempDir()).Pack(t.Context(), file, sum, Zstd)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	other := filepath.Join(dir, "of-another-version")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, true} {
		if added, err := Publish(t.Context(), b, dir); err != nil || added != want {
			t.Errorf("%d: added is %t: %v", i, added, err)
		}
		got, want := read1(t, filepath.Join(dir, b.Name())), read1(t, b.File)
		info, err := os.Stat(filepath.Join(dir, b.Name()))
		if got != want || err != nil || info.Mode() != 0o644 || len(list(t, dir)) != 2 {
			t.Errorf("%d: %v with %q: %v", i, info, list(t, dir), err)
		}
		if i == 1 {
			if err := os.WriteFile(filepath.Join(dir, b.Name()), []byte("spoilt"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Publish(t.Context(), b, filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), b.Name()) {
		t.Errorf("without a directory: %v", err)
	}
}

func read1(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
