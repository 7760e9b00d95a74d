package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// fakeDocker is a Docker daemon that has these containers, in JSON, and calls asked when it is asked for them. What it is
// told to remove it only notes.
func fakeDocker(t *testing.T, containers string, asked func()) (removed *[]string) {
	t.Helper()
	removed = new([]string)
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "linux")
		w.Header().Set("Content-Type", "application/json")
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.Method == http.MethodDelete:
			*removed = append(*removed, path)
			w.WriteHeader(http.StatusNoContent)
		case path == "containers/json":
			asked()
			_, _ = fmt.Fprint(w, containers)
		case path == "networks":
			_, _ = fmt.Fprint(w, "[]")
		case path == "volumes":
			_, _ = fmt.Fprint(w, "{}")
		}
	}
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(answer)}} //nolint:gosec // of a test
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	return removed
}

// destroying is a run of destroy on a cluster of its own, which has the state only if it is given one.
func destroying(t *testing.T, kept map[string]secret.Bytes) (run *destroyRun, dir string, said *bytes.Buffer) {
	t.Helper()
	base := t.TempDir()
	t.Setenv("SLIPWAY_STATE_DIR", base)
	t.Setenv("SLIPWAY_CACHE_DIR", filepath.Join(base, "cache"))
	t.Setenv("KUBECONFIG", filepath.Join(base, "kubeconfig"))
	file := filepath.Join(base, "cluster.yaml")
	if err := os.WriteFile(file, spec.Starter("demo", "local"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, said = filepath.Join(base, "demo"), &bytes.Buffer{}
	if len(kept) > 0 {
		fill(t, dir, kept)
	} else if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &destroyRun{app: &app{file: file, yes: true, stdin: strings.NewReader(""), stdout: said, stderr: said}}, dir, said
}

func fill(t *testing.T, dir string, with map[string]secret.Bytes) {
	t.Helper()
	store, err := state.Open(t.Context(), state.Options{Dir: dir})
	if err != nil {
		t.Error(err)
		return
	}
	if err := store.Put(t.Context(), with); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// names are what the state in a directory has.
func names(t *testing.T, dir string) []string {
	t.Helper()
	store, err := state.OpenReadOnly(t.Context(), state.Options{Dir: dir})
	if err != nil {
		t.Error(err)
		return nil
	}
	names, err := store.List(t.Context(), "")
	if err != nil || store.Close() != nil {
		t.Error(err)
	}
	return names
}

// Where there was no state when destroy looked, and another run has made one before it has the lock, that one stays.
func TestDestroyLooksAgainUnderTheLock(t *testing.T) {
	run, dir, said := destroying(t, nil)
	removed := fakeDocker(t, "[]", func() { fill(t, dir, map[string]secret.Bytes{"pki/ca.key": secret.Bytes("theirs")}) })
	err := run.destroy(t.Context())
	if err == nil || !strings.Contains(err.Error(), "now; nothing was removed") {
		t.Errorf("error %v, said %s", err, said)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"pki/ca.key"}) || len(*removed) > 0 {
		t.Errorf("left are %q, removed %q", got, *removed)
	}
}

// An empty state that an apply has left behind goes.
func TestDestroyOfAnEmptyState(t *testing.T) {
	run, dir, said := destroying(t, nil)
	fakeDocker(t, "[]", func() {})
	if err := run.destroy(t.Context()); err != nil || !strings.Contains(said.String(), "There is no cluster demo") {
		t.Errorf("error %v, said %s", err, said)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("its directory is left")
	}
}

// The keys of before clusters had UIDs may be those of machines that have one: with these there they stay.
func TestDestroyKeepsAnOlderState(t *testing.T) {
	const oneUID = "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11"
	run, dir, said := destroying(t, map[string]secret.Bytes{"pki/ca.key": secret.Bytes("x")})
	removed := fakeDocker(t, `[{"Id":"1","Names":["/demo-cp-1"],"State":"running","Labels":{"slipway.dev/cluster":"demo","slipway.dev/uid":"`+oneUID+`"}}]`, func() {})
	err := run.destroy(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nothing was removed") || !strings.Contains(err.Error(), oneUID) {
		t.Errorf("error %v, said %s", err, said)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"pki/ca.key"}) || len(*removed) > 0 {
		t.Errorf("left are %q, removed %q", got, *removed)
	}
}
