package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangup: when the operator's connection drops, slipway ends as by Ctrl-C, though shell and kernel both tell it.
func TestHangup(t *testing.T) {
	start := func(name string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.WaitDelay = 10 * time.Second
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.Contains(line, "waiting for the configuration") {
			t.Fatalf("it says %q, %v", line, err)
		}
		return cmd
	}
	absent := filepath.Join(t.TempDir(), "absent")
	signals := func(cmd *exec.Cmd, signals ...syscall.Signal) *exec.ExitError {
		t.Helper()
		for _, s := range signals {
			_ = cmd.Process.Signal(s)
		}
		failed, _ := cmd.Wait().(*exec.ExitError) //nolint:errorlint // Wait's own
		return failed
	}
	for _, hangups := range [][]syscall.Signal{{syscall.SIGHUP}, {syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP}} {
		if failed := signals(start("slipway", "balancer", "--config", absent), hangups...); failed != nil {
			t.Errorf("after %d hangups: %v", len(hangups), failed)
		}
	}
	// Under nohup it outlives its terminal, and ends as ever by the signals for that.
	cmd := start("nohup", "slipway", "balancer", "--config", absent)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if ignored := regexp.MustCompile(`SigIgn:\t[0-9a-f]{15}[13579bdf]`); err != nil || !ignored.Match(status) {
		t.Errorf("under nohup SIGHUP is not ignored: %v\n%s", err, status)
	}
	if failed := signals(cmd, syscall.SIGTERM); failed != nil {
		t.Errorf("a polite kill: %v", failed)
	}
}
