package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"slipway.dev/slipway/provision/secret"
)

// TestConformance holds every backend, plain and encrypted, to the same promises.
func TestConformance(t *testing.T) {
	places := map[string]func(t *testing.T) Options{
		"directory": func(t *testing.T) Options { t.Helper(); return Options{Dir: filepath.Join(t.TempDir(), "a", "demo")} },
		"S3":        func(t *testing.T) Options { t.Helper(); return Options{S3: &startS3(t).at} },
		"memory":    func(*testing.T) Options { return Options{Memory: &Memory{}} },
	}
	for place, options := range places {
		for name, test := range map[string]func(*testing.T, Options){
			"contents": testContents, "loose": testLoose, "logs": testLogs, "names": testNames, "read-only": testReadOnly,
			"concurrent use": testConcurrentUse, "two openers": testTwoOpeners, "cancelled": testCancelled,
			"destroy": testDestroy, "no plaintext": testNoPlaintext,
		} {
			t.Run(place+"/plain/"+name, func(t *testing.T) { test(t, options(t)) })
			t.Run(place+"/encrypted/"+name, func(t *testing.T) { test(t, encrypted(options(t), newIdentity(t))) })
		}
	}
}

func openStore(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *Store, pairs ...string) {
	t.Helper()
	items := map[string]secret.Bytes{}
	for i := 0; i < len(pairs); i += 2 {
		items[pairs[i]] = secret.Bytes(pairs[i+1])
	}
	if err := s.Put(t.Context(), items); err != nil {
		t.Fatal(err)
	}
}

// contents is all that a store has, as "name=content" in order.
func contents(t *testing.T, s *Store) []string {
	t.Helper()
	names, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, name := range names {
		content, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, name+"="+string(content.Reveal()))
	}
	return out
}

func expect(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := contents(t, s); !slices.Equal(got, want) {
		t.Errorf("the store has %q, wanted %q", got, want)
	}
}

func testContents(t *testing.T, o Options) {
	s := openStore(t, o)
	expect(t, s)
	put(t, s, "pki/ca.crt", "1", "pki/etcd/server@demo-cp-1.key", "2", "ssh", "3")
	put(t, s, "pki/ca.crt", "4", "empty", "")
	expect(t, s, "empty=", "pki/ca.crt=4", "pki/etcd/server@demo-cp-1.key=2", "ssh=3")
	all, err := s.GetAll(t.Context(), "pki/")
	if err != nil || len(all) != 2 || string(all["ca.crt"].Reveal()) != "4" || string(all["etcd/server@demo-cp-1.key"].Reveal()) != "2" {
		t.Errorf("GetAll: %d items, %v", len(all), err)
	}
	if names, err := s.List(t.Context(), "none/"); err != nil || len(names) != 0 {
		t.Errorf("List of nothing: %v, %v", names, err)
	}
	if _, err := s.Get(t.Context(), "pki/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of nothing: %v", err)
	}
	if err := s.Remove(t.Context(), "pki/etcd/server@demo-cp-1.key", "ssh", "was/never"); err != nil {
		t.Error(err)
	}
	put(t, s, "pki/etcd", "a name now, since the last below it is gone")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, openStore(t, o), "empty=", "pki/ca.crt=4", "pki/etcd=a name now, since the last below it is gone")
}

func testLoose(t *testing.T, o Options) {
	s := openStore(t, o)
	put(t, s, "runs/1", "1", "pki/ca", "2", "runs/2", "3")
	put(t, s, "runs/1", "4")
	expect(t, s, "pki/ca=2", "runs/1=4", "runs/2=3")
	for prefix, want := range map[string]string{"runs/": "runs/1 runs/2", "pki/": "pki/ca", "": "pki/ca runs/1 runs/2"} {
		if names, err := s.List(t.Context(), prefix); err != nil || strings.Join(names, " ") != want {
			t.Errorf("below %q: %q, %v", prefix, names, err)
		}
	}
	all, err := s.GetAll(t.Context(), "runs/")
	if err != nil || len(all) != 2 || string(all["1"].Reveal()) != "4" {
		t.Errorf("GetAll: %d items, %v", len(all), err)
	}
	if _, err := s.Get(t.Context(), "runs/3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of nothing: %v", err)
	}
	for _, name := range []string{"runs", "runs/1/2"} {
		if err := s.Put(t.Context(), map[string]secret.Bytes{name: nil, "runs/3": nil}); err == nil {
			t.Errorf("Put accepted %q", name)
		}
		if err := s.Remove(t.Context(), name); err == nil {
			t.Errorf("Remove accepted %q", name)
		}
	}
	if err := s.Remove(t.Context(), "runs/2", "pki/ca", "runs/never"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, openStore(t, o), "runs/1=4")
}

func testLogs(t *testing.T, o Options) {
	s := openStore(t, o)
	for range 2 {
		w, err := s.Log("runs/apply.log")
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintln(w, "a line")
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(raw(t, o)["logs/runs/apply.log"]); got != "a line\na line\n" {
		t.Errorf("the log holds %q", got)
	}
}

func testNames(t *testing.T, o Options) {
	s := openStore(t, o)
	put(t, s, "taken", "x", "dir/name", "y")
	for _, name := range []string{
		"", ".", "..", "/abs", "a//b", "a/", "../up", "a/../../up", ".hidden", "a/.b", "-flag", "a b", "a\nb", "a\x00b", "ü",
		strings.Repeat("x", 201), "taken/below", "dir",
	} {
		if err := s.Put(t.Context(), map[string]secret.Bytes{name: nil, "ok": nil}); err == nil {
			t.Errorf("Put accepted %q", name)
		}
		if _, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("Get accepted %q", name)
		}
		if err := s.Remove(t.Context(), name); err == nil && name != "taken/below" {
			t.Errorf("Remove accepted %q", name)
		}
	}
	if err := s.Put(t.Context(), map[string]secret.Bytes{"new": nil, "new/below": nil}); err == nil {
		t.Error("Put accepted a name that is a directory of another")
	}
	if _, err := s.List(t.Context(), "dir"); err == nil {
		t.Error("List accepted a prefix without a slash")
	}
	if _, err := s.Log("../escape"); err == nil {
		t.Error("Log accepted a way out")
	}
	expect(t, s, "dir/name=y", "taken=x")
}

func testReadOnly(t *testing.T, o Options) {
	if _, err := OpenReadOnly(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	s := openStore(t, o)
	put(t, s, "a", "1")
	r, err := OpenReadOnly(t.Context(), o)
	if err != nil {
		t.Fatalf("beside a writer: %v", err)
	}
	expect(t, r, "a=1")
	put(t, s, "a", "2")
	expect(t, r, "a=2")
	_, logErr := r.Log("x")
	for _, err := range []error{logErr, r.Put(t.Context(), map[string]secret.Bytes{"a": nil}), r.Remove(t.Context(), "a")} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("writing gave %v", err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), o); !isLocked(err) {
		t.Errorf("the reader's Close took the writer's lock: %v", err)
	}
}

func isLocked(err error) bool {
	var locked *LockedError
	return errors.As(err, &locked)
}

func testConcurrentUse(t *testing.T, o Options) {
	s := openStore(t, o)
	put(t, s, "p/x", "0", "p/y", "0")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 5 {
				v := secret.Bytes(fmt.Sprint(i, n))
				if err := s.Put(t.Context(), map[string]secret.Bytes{"p/x": v, "p/y": v}); err != nil {
					t.Error(err)
				}
				if _, err := s.GetAll(t.Context(), "p/"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all, err := s.GetAll(t.Context(), "p/")
	if err != nil || string(all["x"].Reveal()) != string(all["y"].Reveal()) || len(all["x"]) < 2 {
		t.Errorf("the last Put is torn, or lost: %v", err)
	}
}

// testTwoOpeners has many open at once: one gets the store, the others hear that they did not.
func testTwoOpeners(t *testing.T, o Options) {
	const openers = 6
	stores, errs := make([]*Store, openers), make([]error, openers)
	var wg sync.WaitGroup
	for i := range openers {
		wg.Go(func() { stores[i], errs[i] = Open(t.Context(), o) })
	}
	wg.Wait()
	open := 0
	for i, s := range stores {
		switch {
		case s != nil:
			open++
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			put(t, s, "a", "1")
		case !isLocked(errs[i]):
			t.Errorf("refused with %v", errs[i])
		}
	}
	if open != 1 {
		t.Errorf("%d of %d opened at once", open, openers)
	}
}

func testCancelled(t *testing.T, o Options) {
	s := openStore(t, o)
	put(t, s, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, map[string]secret.Bytes{"a": secret.Bytes("2")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.GetAll(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("GetAll: %v", err)
	}
	expect(t, s, "a=1")
}

func testDestroy(t *testing.T, o Options) {
	s := openStore(t, o)
	put(t, s, "a", "1", "runs/1", "1")
	w, err := s.Log("apply.log")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), s.Destroy(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if left := raw(t, o); len(left) != 0 {
		t.Errorf("left behind: %q", slices.Sorted(maps.Keys(left)))
	}
	if _, err := OpenReadOnly(t.Context(), o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened after Destroy: %v", err)
	}
	expect(t, openStore(t, o))
}

// testNoPlaintext looks at the bytes that are stored: what is encrypted is nowhere in them, in no
// usual encoding.
func testNoPlaintext(t *testing.T, o Options) {
	const plain = "-----BEGIN correct horse battery staple-----"
	s := openStore(t, o)
	put(t, s, "pki/ca.key", plain, "runs/1", plain)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	places := 0
	for name, content := range raw(t, o) {
		found := false
		for _, form := range []string{plain, base64.StdEncoding.EncodeToString([]byte(plain))[:40], hex.EncodeToString([]byte(plain))} {
			found = found || bytes.Contains(content, []byte(form))
		}
		if bytes.Contains(content, []byte("AGE-SECRET-KEY")) {
			t.Errorf("%s holds a private key", name)
		}
		if found {
			places++
		}
	}
	if plain := len(o.Recipients) == 0; plain && places != 2 || !plain && places != 0 {
		t.Errorf("the plaintext is in %d places", places)
	}
	expect(t, openStore(t, o), "pki/ca.key="+plain, "runs/1="+plain)
}
