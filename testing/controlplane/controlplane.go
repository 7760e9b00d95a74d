// Package controlplane starts a real etcd and a real API server as child processes on loopback, for tests of what
// speaks to them. It is not a cluster: there is no controller, no scheduler and no kubelet.
package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTime is how long a program may take until it serves; test machines can be very busy.
const startTime = 90 * time.Second

// binary finds a program: in the directory SLIPWAY_TEST_BIN, else in the newest bundle of the cache. Without one the
// test is skipped; in CI it fails.
func binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("SLIPWAY_TEST_BIN"); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("SLIPWAY_TEST_BIN: %v", err)
		}
		return path
	}
	cache := os.Getenv("SLIPWAY_CACHE_DIR")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "slipway")
	}
	found, err := filepath.Glob(filepath.Join(cache, "bundles", "*", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return slices.MaxFunc(found, func(a, b string) int { return modified(t, a).Compare(modified(t, b)) })
	}
	missing := fmt.Sprintf("there is no %s in %s: run `slipway bundle build`, or set SLIPWAY_TEST_BIN", name, cache)
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// modified is when the bundle of a program was made; the program itself may be older.
func modified(t testing.TB, path string) time.Time {
	t.Helper()
	info, err := os.Stat(filepath.Dir(filepath.Dir(path)))
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// Process is a child process that serves HTTPS on loopback.
type Process struct {
	// Address is host:port.
	Address string
	Identity

	cmd   *exec.Cmd
	ended chan struct{}
}

// URL of the process.
func (p *Process) URL() string { return "https://" + p.Address }

// Stop kills the process, as a machine that loses its power would, and waits until it is gone.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// run starts a program and waits until GET path answers 200. It is killed when the test ends; what it wrote is shown
// when the test failed.
func run(t testing.TB, id Identity, address, path, program string, args ...string) *Process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Address: address, Identity: id, ended: make(chan struct{})}
	p.cmd = exec.Command(program, args...) // #nosec G204 -- a test's own program
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its end is all that matters
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Stop()
		_ = log.Close()
		if t.Failed() {
			t.Logf("%s wrote\n%s", filepath.Base(program), tail(log.Name()))
		}
	})
	p.wait(t, path)
	return p
}

func tail(path string) string {
	text, err := os.ReadFile(path) // #nosec G304 -- a test's own file
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func (p *Process) wait(t testing.TB, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	client := p.HTTPClient(t)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		last := get(ctx, client, p.URL()+path)
		if last == nil {
			return
		}
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("%s ended before it served", p.cmd.Path)
		case <-ctx.Done():
			t.Fatalf("%s does not serve after %v: %v", p.cmd.Path, startTime, last)
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}

// HTTPClient is one with the process's own certificate.
func (p *Process) HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: p.TLS(t)}}
}

// TLS is a client's configuration with the process's own certificate.
func (i Identity) TLS(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(i.Cert, i.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.CA)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// freeAddresses are some on which nothing listens.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }() // all at the end, so that all differ
		addresses[i] = listener.Addr().String()
	}
	return addresses
}
