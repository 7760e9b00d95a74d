package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tool is the slipway binary with a state directory of its own. The cache, which holds the bundle, is shared.
type tool struct {
	state string
	env   []string // added to the environment
	other string   // another binary than that under test
}

// result is a finished run of slipway.
type result struct {
	args           []string
	stdout, stderr string
	code           int
	elapsed        time.Duration
	maxRSS         int64 // bytes
}

func (r result) String() string {
	return fmt.Sprintf("slipway %s: exit code %d after %.1fs\n--- stdout\n%s\n--- stderr\n%s",
		strings.Join(r.args, " "), r.code, r.elapsed.Seconds(), r.stdout, r.stderr)
}

func (s *tool) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, cmp.Or(s.other, binary), args...)
	cmd.Env = append(append(os.Environ(), "SLIPWAY_STATE_DIR="+s.state), s.env...)
	return cmd
}

// run runs slipway to its end, whatever the exit code, and fails the test if it printed a secret.
func (s *tool) run(t *testing.T, stdin []byte, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute) // a cold cache builds the whole stack
	defer cancel()
	cmd := s.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("slipway %v: %v", args, err)
	}
	memory := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	r := result{args: args, stdout: stdout.String(), stderr: stderr.String(), elapsed: time.Since(began)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("slipway %v: %v", args, err)
	}
	r.code = cmd.ProcessState.ExitCode()
	r.maxRSS = <-memory
	if args[0] != "kubeconfig" { // whose purpose is to print one
		s.checkNoSecrets(t, r)
	}
	return r
}

// watchMemory gives a process's peak of resident memory in bytes, once it has ended. It reads the kernel's own peak
// (VmHWM), again and again while it can: rusage's would begin with what this program had when it forked.
func watchMemory(pid int) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		var last int64
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, field, found := strings.Cut(string(status), "VmHWM:")
			if !found { // it has ended: a zombie has no memory
				tick.Stop()
				peak <- last
				return
			}
			var kb int64
			_, _ = fmt.Sscan(field, &kb)
			last = kb << 10
		}
	}()
	return peak
}

// ok is run for what must succeed.
func (s *tool) ok(t *testing.T, args ...string) result {
	t.Helper()
	r := s.run(t, nil, args...)
	if r.code != 0 {
		t.Fatal(r)
	}
	return r
}

// checkNoSecrets fails the test if a run printed key material or wrote it to its log.
func (s *tool) checkNoSecrets(t *testing.T, r result) {
	t.Helper()
	shown := map[string]string{"its output": r.stdout + r.stderr}
	secrets := map[string]string{"PRIVATE KEY": "any file"}
	s.walk(t, func(path, content string) {
		if filepath.Ext(path) == ".log" {
			shown[path] = content
			return
		}
		for _, line := range keyLines(content) {
			secrets[line] = path
		}
	})
	for where, text := range shown {
		for secret, file := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("slipway %v: %s holds key material of %s", r.args, where, file)
			}
		}
	}
}

// walk reads every file of the state directory.
func (s *tool) walk(t *testing.T, visit func(path, content string)) {
	t.Helper()
	err := filepath.WalkDir(s.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		content, err := os.ReadFile(path)
		if err == nil {
			visit(path, string(content))
		}
		return ignoreMissing(err)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
