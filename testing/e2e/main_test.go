package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// binary is the slipway under test.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv("SLIPWAY_E2E") != "1" {
		fmt.Println("e2e: not run; set SLIPWAY_E2E=1 (make test does)")
		os.Exit(0)
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	if out, err := exec.CommandContext(context.Background(), "docker", "version").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("these tests make machines out of Docker containers, and no engine answers: %w: %s", err, out)
	}
	dir, err := os.MkdirTemp("", "slipway-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if binary, err = findBinary(dir); err != nil {
		return 0, err
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil { // turns say who works: see parallel
		return 0, err
	}
	return m.Run(), nil
}

// findBinary is SLIPWAY_BIN or a fresh build in dir.
func findBinary(dir string) (string, error) {
	if bin := os.Getenv("SLIPWAY_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(dir, "slipway")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", bin, "slipway.dev/slipway/cmd/slipway")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return bin, build.Run()
}

// eventually calls check until it returns nil, and fails the test with the last error when limit has passed.
func eventually(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := fmt.Errorf("never checked")
	for {
		attempt, done := context.WithTimeout(ctx, 10*time.Second)
		err := check(attempt)
		done()
		if err == nil {
			t.Logf("%s after %.1fs", what, time.Since(began).Seconds())
			return
		}
		if ctx.Err() == nil {
			last = err // an error caused by the deadline itself would hide what was seen before it
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not so after %v; last seen: %v", what, limit, last)
		case <-tick.C:
		}
	}
}
