package local

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeSlipway builds the stand-in for the slipway binary into the bundles and returns its path in a machine.
func fakeSlipway(t *testing.T, cache, version string) string {
	t.Helper()
	dir := filepath.Join(cache, "bundles", "slwtest-"+version)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.Command("go", "build", "-ldflags=-X main.version="+version, "-o", filepath.Join(dir, "slipway"),
		"./testdata/balancer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return Bundles + "/slwtest-" + version + "/slipway"
}

// says reads what the balancer answers at endpoint, waiting until it contains want.
func says(t *testing.T, endpoint, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := answer(ctx, endpoint)
		if strings.Contains(got, want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s says %q, %v; want %q", endpoint, got, err, want)
		}
	}
}

func answer(ctx context.Context, endpoint string) (string, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestBalancer(t *testing.T) {
	p, o := e2e(t, "slwbal", 1, 0)
	p.o.Slipway = fakeSlipway(t, o.CacheDir, "1")
	infra, err := p.Ensure(t.Context(), every(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	says(t, infra.Endpoint, fmt.Sprintf("1 uid %d open /etc/slipway/balancer.json: no such file", os.Getuid()))
	if err := p.Publish(infra, []byte("CA")); err != nil {
		t.Fatal(err)
	}
	says(t, infra.Endpoint, "[0.0.0.0:6443] [10.88.77.11:6443]CA")

	// A new binary replaces the balancer, on the same port.
	p.o.Slipway = fakeSlipway(t, o.CacheDir, "2")
	again, err := p.Ensure(t.Context(), every(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.Endpoint != infra.Endpoint {
		t.Errorf("the endpoint moved from %s to %s", infra.Endpoint, again.Endpoint)
	}
	says(t, infra.Endpoint, "2 uid")

	// Without a balancer the port is still known, and so it is for the next one.
	if err := p.removeContainer(t.Context(), p.balancerName(), p.balancerName()); err != nil {
		t.Fatal(err)
	}
	if again, err = p.Ensure(t.Context(), every(p), nil); err != nil {
		t.Fatal(err)
	}
	if again.Endpoint != infra.Endpoint {
		t.Errorf("the endpoint moved from %s to %s", infra.Endpoint, again.Endpoint)
	}
	says(t, infra.Endpoint, "2 uid")

	// Another port where the spec says so; a port that is taken is named.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.apiPort = l.Addr().(*net.TCPAddr).Port
	if _, err = p.Ensure(t.Context(), every(p), nil); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d is taken", p.apiPort)) {
		t.Errorf("Ensure with a port that is taken: %v", err)
	}
	_ = l.Close()
	if again, err = p.Ensure(t.Context(), every(p), nil); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("127.0.0.1:%d", p.apiPort); again.Endpoint != want {
		t.Errorf("endpoint %s, want %s", again.Endpoint, want)
	}
	says(t, again.Endpoint, "2 uid")
}
