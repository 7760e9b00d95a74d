package local

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDocker serves handler as a Docker daemon on a socket and points DOCKER_HOST at it.
func fakeDocker(t *testing.T, handler http.Handler) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}} //nolint:gosec // of a test
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
}

func open(t *testing.T) *Local {
	t.Helper()
	p, err := Open(testCluster("demo", 1, 0), Options{StateDir: t.TempDir(), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantError checks that one error names what, where and the remedy, for each way of using the provider.
func wantError(t *testing.T, p *Local, parts ...string) {
	t.Helper()
	_, ensure := p.Ensure(t.Context(), every(p), nil)
	_, find := p.Find(t.Context())
	for what, err := range map[string]error{"Ensure": ensure, "Find": find, "Destroy": p.Destroy(t.Context(), nil)} {
		if err == nil {
			t.Errorf("%s succeeds", what)
			continue
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", what, err, part)
			}
		}
	}
}

func TestDockerMissing(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	wantError(t, open(t), "Docker", "does not answer", socket, "install Docker")
}

func TestDockerStopped(t *testing.T) {
	// A socket that nobody serves is left behind by a daemon that was killed.
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	wantError(t, open(t), "does not answer", socket, "start it")
}

func TestDockerRefuses(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	wantError(t, open(t), "Docker", "does not answer", "127.0.0.1:1", "start it")
}

func TestDockerOfWindows(t *testing.T) {
	fakeDocker(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "windows")
	}))
	wantError(t, open(t), "windows", "Linux")
}

func TestDockerElsewhere(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
	_, err := Open(testCluster("demo", 1, 0), Options{})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1") || !strings.Contains(err.Error(), "unset DOCKER_HOST") {
		t.Errorf("Docker on another computer: %v", err)
	}
}

// Half of Docker's answers being errors must not be taken for an empty machine park.
func TestDockerBroken(t *testing.T) {
	fakeDocker(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Ostype", "linux")
		if !strings.HasSuffix(r.URL.Path, "/_ping") {
			http.Error(w, `{"message":"disk full"}`, http.StatusInternalServerError)
		}
	}))
	wantError(t, open(t), "disk full")
}

func TestInterruptedAsking(t *testing.T) {
	asked := make(chan struct{})
	fakeDocker(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	p := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := p.Find(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestBadSubnet(t *testing.T) {
	for _, subnet := range []string{"10.89.0.0", "fd00::/64", "nonsense"} {
		c := testCluster("demo", 1, 0)
		c.Spec.Provider.Local.Subnet = subnet
		if _, err := Open(c, Options{}); err == nil || !strings.Contains(err.Error(), subnet) {
			t.Errorf("subnet %s: %v", subnet, err)
		}
	}
}
