package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// published is what upstream would serve for recipes: small files with the right names, archives and digests.
func published(t *testing.T, rows []recipe) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, r := range rows {
		if r.C != nil {
			continue
		}
		for _, file := range r.remotes("amd64") {
			var content []byte
			if name, plain := file.programs[""]; plain {
				content = fakeProgram(name)
			} else {
				content = fakeArchive(t, file.programs)
			}
			files[file.path] = content
			sum := bytesDigest(content)
			switch r.Component {
			case "kubernetes": // the bare digest, without an end of line
				files[file.digest] = []byte(sum)
			case "etcd": // one list for all files
				files[file.digest] = fmt.Appendf(nil, "%064x  other.tar.gz\n%s  %s\n", 7, sum, path.Base(file.path))
			default:
				files[file.digest] = fmt.Appendf(nil, "%s *%s\n", sum, path.Base(file.path))
			}
		}
	}
	return files
}

func fakeProgram(name string) []byte {
	return bytes.Repeat([]byte("the program "+name+"\n"), 1000)
}

func fakeArchive(t *testing.T, programs map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	archive := tar.NewWriter(zipped)
	write := func(name string, content []byte) {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
		_, err := archive.Write(content)
		must(t, err)
	}
	write("./LICENSE", []byte("free"))
	for _, member := range slices.Sorted(maps.Keys(programs)) {
		write("./"+member, fakeProgram(programs[member]))
	}
	must(t, archive.Close())
	must(t, zipped.Close())
	return buf.Bytes()
}

// upstreamServer serves files, after misbehaving as told: each path has a queue of handlers for its next requests.
type upstreamServer struct {
	*httptest.Server
	files map[string][]byte

	mu       sync.Mutex
	queue    map[string][]http.HandlerFunc
	requests []string // "GET path range"
}

func serve(t *testing.T, files map[string][]byte) *upstreamServer {
	s := &upstreamServer{files: files, queue: map[string][]http.HandlerFunc{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+at+" "+r.Header.Get("Range")))
		var next http.HandlerFunc
		if queue := s.queue[at]; len(queue) > 0 {
			next, s.queue[at] = queue[0], queue[1:]
		}
		content, there := s.files[at]
		s.mu.Unlock()
		switch {
		case next != nil:
			next(w, r)
		case !there:
			http.NotFound(w, r)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *upstreamServer) asked(at string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, r := range s.requests {
		if strings.Contains(r+" ", " "+at+" ") {
			got = append(got, r)
		}
	}
	return got
}

// truncated announces all of content and breaks off in the middle.
func truncated(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// downloadTest downloads rows from a mirror into a cache.
func downloadTest(t *testing.T, cacheDir, mirror string, rows []recipe) (*Bundle, phases, error) {
	t.Helper()
	seen := phases{}
	o := seen.options(t, cacheDir)
	o.Mirror, o.Arch, o.TrustPublished = mirror, "amd64", true
	o.pins = &pinSet{pins: Pins{}, learned: Pins{}}
	d := newDownloader(o)
	d.pauses = []time.Duration{time.Millisecond, time.Millisecond}
	b, err := downloadRows(t.Context(), o, rows, d)
	return b, seen, err
}

var allUpstream = []string{
	"kubernetes", "etcd", "containerd", "runc", "cni-plugins", "cni-plugin-flannel", "flannel", "coredns", "cri-tools",
}

func TestDownload(t *testing.T) {
	rows := rowsNamed(t, allUpstream...)
	files := published(t, rows)
	server := serve(t, files)
	cache := t.TempDir()
	b, _, err := downloadTest(t, cache, server.URL+"/", rows)
	must(t, err)
	must(t, b.Verify(t.Context()))
	for _, name := range []string{"kubelet", "etcdutl", "containerd-shim-runc-v2", "runc", "bridge", "flannel", "flanneld", "crictl"} {
		a, ok := b.Artifact(name)
		if !ok {
			t.Errorf("no %s", name)
			continue
		}
		got, err := os.ReadFile(b.File(a))
		must(t, err)
		if !bytes.Equal(got, fakeProgram(name)) {
			t.Errorf("%s has the wrong content", name)
		}
	}
	if a, _ := b.Artifact("flannel"); a.Version != "v1.8.0-flannel1" {
		t.Errorf("flannel's version is %s, not that of what was downloaded", a.Version)
	}
	if a, ok := b.Artifact("coredns.tar"); !ok || a.Kind != Image || a.Ref != "slipway.invalid/coredns:v1.15.0" {
		t.Errorf("CoreDNS's image: %+v", a)
	}

	// Again: nothing but what is published is asked of upstream. From a directory: the same bundle.
	before := len(server.asked(runcFile))
	again, seen, err := downloadTest(t, cache, server.URL, rows)
	must(t, err)
	if again.Digest != b.Digest || len(server.asked(runcFile)) != before || !slices.Equal(seen["etcd"], []Phase{Trusting, Cached}) {
		t.Errorf("second download: %s, %d requests, %v", again.Digest, len(server.asked(runcFile))-before, seen["etcd"])
	}
	dir := t.TempDir()
	for at, content := range files {
		must(t, os.MkdirAll(filepath.Join(dir, path.Dir(at)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, at), content, 0o644))
	}
	for _, mirror := range []string{dir, "file://" + dir} {
		carried, _, err := downloadTest(t, t.TempDir(), mirror, rows)
		must(t, err)
		if carried.Digest != b.Digest {
			t.Errorf("from %s it is %s, not %s", mirror, carried.Digest, b.Digest)
		}
	}
}

const (
	runcFile   = "opencontainers/runc/releases/download/v1.5.2/runc.amd64"
	runcDigest = "opencontainers/runc/releases/download/v1.5.2/runc.sha256sum"
)

func TestDownloadMeets(t *testing.T) {
	rows := rowsNamed(t, "runc")
	whole := fakeProgram("runc")
	half := fmt.Sprintf("bytes=%d-", len(whole)/2)
	for name, test := range map[string]struct {
		files map[string][]byte // instead of what is published; nil: nothing
		queue map[string][]http.HandlerFunc
		want  []string // what was asked for the file, in order, if the download succeeds
		err   []string // what the error says, if it fails
	}{
		"nothing unusual": {want: []string{"GET " + runcFile}},
		"500, then an answer": {
			queue: map[string][]http.HandlerFunc{runcFile: {status(500), status(503)}},
			want:  []string{"GET " + runcFile, "GET " + runcFile, "GET " + runcFile},
		},
		"500 for the digest, then an answer": {
			queue: map[string][]http.HandlerFunc{runcDigest: {status(502)}},
			want:  []string{"GET " + runcFile},
		},
		"500 for ever": {
			queue: map[string][]http.HandlerFunc{runcFile: {status(500), status(500), status(500)}},
			err:   []string{runcFile, "500"},
		},
		"a body that breaks off": {
			queue: map[string][]http.HandlerFunc{runcFile: {truncated(whole)}},
			want:  []string{"GET " + runcFile, "GET " + runcFile + " " + half},
		},
		"a body that breaks off, from a server that cannot go on": {
			queue: map[string][]http.HandlerFunc{runcFile: {truncated(whole), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(whole) }}},
			want:  []string{"GET " + runcFile, "GET " + runcFile + " " + half},
		},
		"a body that always breaks off": {
			queue: map[string][]http.HandlerFunc{runcFile: {truncated(whole), truncated(whole), truncated(whole)}},
			err:   []string{runcFile, "broke off", "unexpected EOF"},
		},
		"404": {
			files: map[string][]byte{runcFile: nil},
			err:   []string{"runc v1.5.2", runcFile, "404", "check the version and the mirror"},
		},
		"no digest": {
			files: map[string][]byte{runcDigest: nil},
			err:   []string{"published digest", runcDigest, "404"},
		},
		"a digest of other files": {
			files: map[string][]byte{runcDigest: fmt.Appendf(nil, "%064x  runc.arm64\n", 1)},
			err:   []string{"published digest", runcDigest, "no SHA-256 of runc.amd64"},
		},
		"another digest": {
			files: map[string][]byte{runcDigest: fmt.Appendf(nil, "%064x  runc.amd64\n", 1)},
			err:   []string{runcFile, bytesDigest(whole), fmt.Sprintf("%064x", 1), "removed"},
		},
		"403": {
			queue: map[string][]http.HandlerFunc{runcFile: {status(403)}},
			err:   []string{runcFile, "403"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, published(t, rows))
			for at, content := range test.files {
				if content == nil {
					delete(server.files, at)
				} else {
					server.files[at] = content
				}
			}
			maps.Copy(server.queue, test.queue)
			cache := t.TempDir()
			b, _, err := downloadTest(t, cache, server.URL, rows)
			if test.err != nil {
				wantError(t, err, test.err...)
				if bundles, _ := List(cache); len(bundles) != 0 {
					t.Errorf("there is a bundle all the same")
				}
				if strings.Contains(name, "another digest") {
					left, err := os.ReadDir(filepath.Join(cache, "parts"))
					must(t, err)
					if len(left) != 0 {
						t.Errorf("left behind: %v", left)
					}
				}
				return
			}
			must(t, err)
			must(t, b.Verify(t.Context()))
			if got := server.asked(runcFile); !slices.Equal(got, test.want) {
				t.Errorf("asked %q, want %q", got, test.want)
			}
		})
	}
}

// What an earlier run left is gone on with; if it turns out to be something else, it is taken anew.
func TestDownloadResumes(t *testing.T) {
	rows := rowsNamed(t, "runc")
	whole := fakeProgram("runc")
	for name, test := range map[string]struct {
		left []byte
		want int // requests for the file
	}{
		"its beginning": {whole[:100], 1},
		"all of it":     {whole, 1},
		"other bytes":   {[]byte("something else"), 2},
		"too much":      {append(slices.Clone(whole), "more"...), 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, published(t, rows))
			cache := t.TempDir()
			must(t, os.Mkdir(filepath.Join(cache, "parts"), 0o755))
			part := filepath.Join(cache, "parts", bytesDigest(whole)[:16]+"-runc.amd64")
			must(t, os.WriteFile(part, test.left, 0o600))
			b, _, err := downloadTest(t, cache, server.URL, rows)
			must(t, err)
			must(t, b.Verify(t.Context()))
			asked := server.asked(runcFile)
			if len(asked) != test.want || asked[0] != fmt.Sprintf("GET %s bytes=%d-", runcFile, len(test.left)) {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func TestDownloadOfAnArchiveWithoutTheProgram(t *testing.T) {
	rows := rowsNamed(t, "etcd")
	server := serve(t, published(t, rows))
	file := rows[0].remotes("amd64")[0]
	delete(file.programs, "etcd-v3.6.16-linux-amd64/etcdctl")
	content := fakeArchive(t, file.programs)
	server.files[file.path] = content
	server.files[file.digest] = fmt.Appendf(nil, "%s  %s", bytesDigest(content), path.Base(file.path))
	_, _, err := downloadTest(t, t.TempDir(), server.URL, rows)
	wantError(t, err, "etcd-v3.6.16-linux-amd64/etcdctl not in it")
}

func TestDownloadStops(t *testing.T) {
	rows := rowsNamed(t, "runc")
	server := serve(t, published(t, rows))
	ctx, cancel := context.WithCancel(t.Context())
	server.queue[runcFile] = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("the beginning"))
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	}}
	o := phases{}.options(t, t.TempDir())
	o.Mirror, o.Arch, o.TrustPublished = server.URL, "amd64", true
	o.pins = &pinSet{pins: Pins{}, learned: Pins{}}
	_, err := downloadRows(ctx, o, rows, newDownloader(o))
	wantError(t, err, "context canceled")
}

func TestHTTPSIsNotLeft(t *testing.T) {
	plain := serve(t, map[string][]byte{"x": []byte("x")})
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/x", http.StatusFound))
	defer secure.Close()
	client := newClient()
	client.Transport = secure.Client().Transport
	_, err := (&webSite{secure.URL, client}).open(t.Context(), "x", 0)
	wantError(t, err, "refusing to be sent from https to http")
}

func TestParseDigest(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, test := range []struct{ content, want string }{
		{a, a},
		{strings.ToUpper(a) + "\n", a},
		{b + "  other.tgz\n" + a + "  x.tgz\n", a},
		{a + " *x.tgz\n", a},
		{a + "  ./release/x.tgz\n", a},
		{"-----BEGIN PGP SIGNED MESSAGE-----\n\n" + a + "  x.tgz\n-----BEGIN PGP SIGNATURE-----\n", a},
		{b + "  other.tgz\n", ""},
		{"<html>no such thing</html>", ""},
		{a[:63], ""},
		{"", ""},
	} {
		got, err := parseDigest(test.content, "dir/x.tgz")
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %q, %v; want %q", test.content, got, err, test.want)
		}
	}
}

func TestParseRelease(t *testing.T) {
	a := strings.Repeat("a", 64)
	content := `{"tag_name": "v1", "assets": [{"name": "y", "digest": null}, {"name": "x", "digest": "sha256:` + a + `"}]}`
	if got, err := parseRelease(content, "dir/x"); got != a || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, file := range []string{"y", "z"} {
		if got, err := parseRelease(content, file); err == nil {
			t.Errorf("%s: %q without an error", file, got)
		}
	}
	if _, err := parseRelease("not JSON", "x"); err == nil {
		t.Error("no error from what is not JSON")
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(strings.Repeat("a", 64) + "  x\n")
	f.Fuzz(func(t *testing.T, content string) {
		got, err := parseDigest(content, "x")
		if err == nil && (!sha256Hex.MatchString(got) || !strings.Contains(strings.ToLower(content), got)) {
			t.Errorf("%q from %q", got, content)
		}
	})
}
