package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision/secret"
)

// TestInterrupted builds by hand what a process leaves that dies at each stage of a Put.
func TestInterrupted(t *testing.T) {
	file := func(t *testing.T, parts ...string) {
		t.Helper()
		p := filepath.Join(parts[:len(parts)-1]...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(parts[len(parts)-1]), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		leave func(t *testing.T, dir string)
		want  []string
	}{
		"while staging": {
			func(t *testing.T, dir string) { t.Helper(); file(t, dir, ".staging", "a", "2") },
			[]string{"a=1", "d/b=1"},
		},
		"after the commit": {
			func(t *testing.T, dir string) {
				t.Helper()
				file(t, dir, ".commit", "a", "2")
				file(t, dir, ".commit", "d", "b", "2")
				file(t, dir, ".commit", "e", "c", "2")
			},
			[]string{"a=2", "d/b=2", "e/c=2"},
		},
		"while moving": {
			func(t *testing.T, dir string) {
				t.Helper()
				file(t, dir, "data", "a", "2")
				file(t, dir, ".commit", "d", "b", "2")
			},
			[]string{"a=2", "d/b=2"},
		},
		"at the very end": {
			func(t *testing.T, dir string) {
				t.Helper()
				if err := os.MkdirAll(filepath.Join(dir, ".commit", "d"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"a=1", "d/b=1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			own(t, dir)
			s := openStore(t, Options{Dir: dir})
			put(t, s, "a", "1", "d/b", "1")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			test.leave(t, dir)
			r, err := OpenReadOnly(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, r, test.want...)
			s = openStore(t, Options{Dir: dir})
			expect(t, s, test.want...)
			expect(t, r, test.want...)
			put(t, s, "a", "3")
			if got, err := s.Get(t.Context(), "a"); err != nil || string(got.Reveal()) != "3" {
				t.Errorf("afterwards a Put gave %v, %v", string(got.Reveal()), err)
			}
		})
	}
}

func TestFailedPutChangesNothing(t *testing.T) {
	dir := t.TempDir()
	own(t, dir)
	s := openStore(t, Options{Dir: dir})
	put(t, s, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, map[string]secret.Bytes{"a": secret.Bytes("2")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// A directory in the way of the commit stands for whatever may fail there.
	if err := os.MkdirAll(filepath.Join(dir, ".staging", "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, s, "b", "1")
	expect(t, s, "a=1", "b=1")
}

// BenchmarkPut stores as many files as the certificates of a cluster of four nodes are.
func BenchmarkPut(b *testing.B) {
	s, err := Open(b.Context(), Options{Dir: filepath.Join(b.TempDir(), "demo")})
	if err != nil {
		b.Fatal(err)
	}
	items := map[string]secret.Bytes{}
	for i := range 120 {
		items[fmt.Sprintf("pki/%d", i)] = make([]byte, 1000)
	}
	for b.Loop() {
		if err := s.Put(b.Context(), items); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
