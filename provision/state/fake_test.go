package state

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"slipway.dev/slipway/provision/secret"
)

func init() { scryptWork = 8 } // a second for each passphrase is for attackers, not for tests

// fakeS3 is a server with the API of S3 in memory, which does conditional writes as S3 does.
type fakeS3 struct {
	at      S3
	backend *s3mem.Backend
	handler http.Handler

	mu sync.Mutex
	// before, when set, is called with every request; what it returns true for does not go on to
	// the server.
	before func(http.ResponseWriter, *http.Request) bool
}

const testBucket, testPrefix = "states", "clusters/demo"

// newS3 is a server without a network, for tests in a bubble.
func newS3(t *testing.T) *fakeS3 {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_REGION": "", "AWS_CA_BUNDLE": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	f := &fakeS3{backend: s3mem.New()}
	f.handler = gofakes3.New(f.backend, gofakes3.WithTimeSkewLimit(0)).Server()
	if err := f.backend.CreateBucket(testBucket); err != nil {
		t.Fatal(err)
	}
	f.at = S3{Bucket: testBucket, Prefix: testPrefix, Endpoint: "http://s3.test", PathStyle: true, http: f}
	return f
}

// startS3 is a server on loopback.
func startS3(t *testing.T) *fakeS3 {
	t.Helper()
	f := newS3(t)
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.at.Endpoint, f.at.http = server.URL, nil
	servers.Store(server.URL, f)
	return f
}

// servers are those of startS3, by URL, for raw to look into.
var servers sync.Map

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before == nil || !before(w, r) {
		f.handler.ServeHTTP(w, r)
	}
}

func (f *fakeS3) intercept(before func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// Do answers a request without a network, with the Date that net/http's server would give.
func (f *fakeS3) Do(r *http.Request) (*http.Response, error) {
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	r = r.Clone(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10)) // gofakes3 looks for it there
	w := httptest.NewRecorder()
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	f.ServeHTTP(w, r)
	if w.Code == dropped {
		return nil, errors.New("connection reset")
	}
	response := w.Result()
	response.Request = r
	return response, nil
}

// dropped has Do fail as if the answer was lost.
const dropped = 599

// raw gives everything that is stored, as bytes, by path or key.
func raw(t *testing.T, o Options) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	if o.Memory != nil {
		maps.Copy(all, o.Memory.items)
		for name, content := range o.Memory.logs {
			all["logs/"+name] = content
		}
		return all
	}
	if o.S3 != nil {
		server, ok := servers.Load(o.S3.Endpoint)
		if !ok {
			server = o.S3.http
		}
		for name, content := range server.(*fakeS3).objects(t) {
			all[strings.TrimPrefix(name, testPrefix+"/")] = content
		}
		return all
	}
	err := fs.WalkDir(os.DirFS(o.Dir), ".", func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(o.Dir, p))
		all[p] = content
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (f *fakeS3) objects(t *testing.T) map[string][]byte {
	t.Helper()
	list, err := f.backend.ListBucket(testBucket, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, item := range list.Contents {
		o, err := f.backend.GetObject(testBucket, item.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if all[item.Key], err = io.ReadAll(o.Contents); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// set puts an object there, by its name below the prefix.
func (f *fakeS3) set(t *testing.T, name, content string) {
	t.Helper()
	_, err := f.backend.PutObject(testBucket, testPrefix+"/"+name, map[string]string{}, strings.NewReader(content), int64(len(content)), nil)
	if err != nil {
		t.Fatal(err)
	}
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// encrypted are the options of somebody who wants the state encrypted to, and can open it with,
// these identities.
func encrypted(o Options, identities ...*age.X25519Identity) Options {
	o.Recipients = nil
	for _, id := range identities {
		o.Recipients = append(o.Recipients, id.Recipient().String())
	}
	return with(o, identities...)
}

func with(o Options, identities ...*age.X25519Identity) Options {
	o.Keys.Identities = func([]string) ([]age.Identity, error) {
		var all []age.Identity
		for _, id := range identities {
			all = append(all, id)
		}
		return all, nil
	}
	return o
}

func withPassphrase(o Options, phrase string) Options {
	o.Passphrase, o.Recipients = true, nil
	o.Keys.Passphrase = func(bool) (secret.Bytes, error) { return secret.Bytes(phrase), nil }
	return o
}
