package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// requests are those that a server has had, as "method key", with the size of what was sent.
type requests struct {
	mu    sync.Mutex
	lines []string
	bytes int64
}

func (f *fakeS3) count() *requests {
	seen := &requests{}
	f.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		_, key, _ := strings.Cut(r.URL.Path, testPrefix)
		seen.lines = append(seen.lines, r.Method+" "+key)
		seen.bytes += max(r.ContentLength, 0)
		return false
	})
	return seen
}

// TestLooseRequests: what a loose name costs does not depend on what else is there, nor does what
// others cost on it.
func TestLooseRequests(t *testing.T) {
	f := startS3(t)
	s := openStore(t, Options{S3: &f.at})
	large := strings.Repeat("x", 1<<20)
	put(t, s, "pki/large", large)
	for i := range 100 {
		put(t, s, fmt.Sprint("runs/", i), large[:1<<14])
	}
	document := f.objects(t)[testPrefix+"/"+documentKey]
	seen := f.count()
	for _, test := range []struct {
		do    func() error
		lines string
		bytes int64
	}{
		{func() error { return s.Put(t.Context(), map[string]secret.Bytes{"runs/7": secret.Bytes("small")}) }, "PUT /loose/plain/runs/7", 5},
		{func() error { _, err := s.Get(t.Context(), "runs/7"); return err }, "GET /loose/plain/runs/7", 0},
		{func() error { return s.Remove(t.Context(), "runs/8", "runs/7") }, "DELETE /loose/plain/runs/8, DELETE /loose/plain/runs/7", 0},
		{func() error { _, err := s.List(t.Context(), "pki/"); return err }, "", 0},
		{func() error { _, err := s.GetAll(t.Context(), "pki/"); return err }, "", 0},
		{func() error { return s.Put(t.Context(), map[string]secret.Bytes{"pki/large": nil}) }, "PUT /state.json", 200},
	} {
		seen.lines, seen.bytes = nil, 0
		if err := test.do(); err != nil {
			t.Error(err)
		}
		if got := strings.Join(seen.lines, ", "); got != test.lines || seen.bytes > test.bytes {
			t.Errorf("%d bytes with %q, wanted %q", seen.bytes, got, test.lines)
		}
		if strings.Contains(test.lines, "loose") && !bytes.Equal(f.objects(t)[testPrefix+"/"+documentKey], document) {
			t.Errorf("%s has touched the document", test.lines)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A reader who has the document is not sent it again.
	r, err := OpenReadOnly(t.Context(), Options{S3: &f.at})
	if err != nil {
		t.Fatal(err)
	}
	seen.lines = nil
	for range 3 {
		if _, err := r.Get(t.Context(), "runs/1"); err != nil {
			t.Error(err)
		}
	}
	if len(seen.lines) != 6 {
		t.Errorf("reading three times took %q", seen.lines)
	}
	if got, err := r.at.(*bucket).load(t.Context(), r.at.(*bucket).current); err != nil || got.etag == "" {
		t.Errorf("%v", err)
	}
	if _, err := r.at.(*bucket).readUnless(t.Context(), documentKey, r.at.(*bucket).current.etag); !errors.Is(err, errSame) {
		t.Errorf("a document that is known was read again: %v", err)
	}
}

// TestLostLeaseLoose: who slept too long writes no loose names either, though nothing of them has a
// condition.
func TestLostLeaseLoose(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		slow := openStore(t, Options{S3: &f.at})
		put(t, slow, "runs/1", "1")
		die(slow)
		time.Sleep(2 * leaseTime)
		put(t, slow, "runs/1", "2") // nobody has wanted the lock: it is renewed
		time.Sleep(2 * leaseTime)
		fast := openStore(t, Options{S3: &f.at})
		put(t, fast, "runs/1", "3")
		for range 2 {
			err := slow.Put(t.Context(), map[string]secret.Bytes{"runs/1": secret.Bytes("4")})
			if lost := lostBy(err); lost == nil || lost.Holder.ID != fast.at.(*bucket).lease.holder.ID {
				t.Errorf("Put gave %v", err)
			}
		}
		for _, err := range []error{slow.Remove(t.Context(), "runs/1"), slow.Destroy(t.Context())} {
			if lostBy(err) == nil {
				t.Errorf("gave %v", err)
			}
		}
		expect(t, fast, "runs/1=3")
	})
}

// TestLostWhileWriting: a request that hangs is given up with the lock, before anybody else can
// have it.
func TestLostWhileWriting(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		s := openStore(t, Options{S3: &f.at})
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			if strings.Contains(r.URL.Path, looseDir) {
				<-r.Context().Done()
			}
			w.WriteHeader(dropped)
			return true
		})
		began := time.Now()
		err := s.Put(t.Context(), map[string]secret.Bytes{"runs/1": nil})
		if lostBy(err) == nil || time.Since(began) > leaseTime {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		f.intercept(nil)
	})
}

// TestKilledWhileEncryptingAnew ends a writer before each of its requests in turn: whatever it was
// about to do, what is there is whole, and the next writer brings it to its end. Nothing is left in
// plain then, or under another key.
func TestKilledWhileEncryptingAnew(t *testing.T) {
	a, b := newIdentity(t), newIdentity(t)
	want := []string{"pki/ca=secret", "runs/1=secret one", "runs/2=secret two"}
	for name, test := range map[string]struct{ from, to func(Options) Options }{
		"plain to encrypted": {func(o Options) Options { return with(o, a, b) }, func(o Options) Options { return encrypted(o, a) }},
		"a to b":             {func(o Options) Options { return encrypted(o, a) }, func(o Options) Options { return with(encrypted(o, b), a, b) }},
		"encrypted to plain": {func(o Options) Options { return encrypted(o, a) }, func(o Options) Options { return with(o, a) }},
	} {
		t.Run(name, func(t *testing.T) {
			finished := false
			for kill := 1; !finished; kill++ {
				bubble(t, func(t *testing.T, f *fakeS3) {
					o := Options{S3: &f.at}
					fill(t, test.from(o), "pki/ca", "secret", "runs/1", "secret one", "runs/2", "secret two")
					reader, err := OpenReadOnly(t.Context(), with(o, a, b))
					if err != nil {
						t.Fatal(err)
					}
					l, cut := f.link()
					var left atomic.Int32
					left.Store(int32(kill))
					f.intercept(func(http.ResponseWriter, *http.Request) bool {
						if left.Add(-1) == 0 {
							l.cut.Store(true) // this one still arrives, and its answer does not matter
						}
						return false
					})
					s, err := Open(t.Context(), test.to(cut))
					f.intercept(nil)
					if finished = err == nil && left.Load() > 0; finished {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					} else if s != nil {
						die(s)
					}
					expect(t, reader, want...)
					time.Sleep(2 * leaseTime)
					next := openStore(t, test.to(o))
					expect(t, next, want...)
					expect(t, reader, want...)
					if left := raw(t, o); len(left) != 4 || name != "encrypted to plain" && strings.Contains(fmt.Sprintf("%s", left), "secret one") {
						t.Errorf("killed after %d requests: left are %q", kill, slices.Sorted(maps.Keys(left)))
					}
				})
				if kill > 100 {
					t.Fatal("it never ends")
				}
			}
		})
	}
}

// TestEncryptedAnewWhileListing has a reader in the middle when loose names move.
func TestEncryptedAnewWhileListing(t *testing.T) {
	f := startS3(t)
	o := with(Options{S3: &f.at}, newIdentity(t))
	id := newIdentity(t)
	fill(t, o, "runs/1", "1", "runs/2", "2")
	r, err := OpenReadOnly(t.Context(), with(o, id))
	if err != nil {
		t.Fatal(err)
	}
	getting, err := r.at.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listing, err := r.at.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill(t, encrypted(o, id))
	if got, err := r.readOne(t.Context(), getting, "runs/1"); err != nil || string(got.Reveal()) != "1" {
		t.Errorf("got %q, %v", got.Reveal(), err)
	}
	if names, err := listing.names(t.Context(), ""); err != nil || strings.Join(names, " ") != ".key runs/1 runs/2" {
		t.Errorf("got %q, %v", names, err)
	}
}

// TestLooseInDocument: what the first slipways had in the document is read there, and moved by the
// next writer.
func TestLooseInDocument(t *testing.T) {
	f := startS3(t)
	o := Options{S3: &f.at}
	f.set(t, documentKey, `{"version":2,"writer":"X","generation":1,"items":{"a":"MQ==","runs/1":"Mg=="}}`)
	r, err := OpenReadOnly(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, "a=1", "runs/1=2")
	fill(t, o)
	if got := string(f.objects(t)[testPrefix+"/loose/plain/runs/1"]); got != "2" {
		t.Errorf("it was moved as %q", got)
	}
	expect(t, r, "a=1", "runs/1=2")
	fill(t, o, "runs/1", "3")
	expect(t, r, "a=1", "runs/1=3")
	if strings.Contains(string(f.objects(t)[testPrefix+"/"+documentKey]), "runs") {
		t.Error("the document still has it")
	}
}

// TestMixedPut: where the document cannot be written, it is as it was, whatever became of loose
// names.
func TestMixedPut(t *testing.T) {
	f := startS3(t)
	s := openStore(t, Options{S3: &f.at})
	put(t, s, "a", "1")
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		refuse := r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, documentKey)
		if refuse {
			w.WriteHeader(http.StatusForbidden)
		}
		return refuse
	})
	if err := s.Put(t.Context(), map[string]secret.Bytes{"a": nil, "b": nil, "runs/1": secret.Bytes("1")}); err == nil {
		t.Error("stored")
	}
	f.intercept(nil)
	expect(t, s, "a=1", "runs/1=1")
}
