package scale_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// figures are what a plan took.
type figures struct {
	hosts   int
	took    time.Duration // by the clock, of the whole process
	busy    time.Duration // of processors
	rest    time.Duration // of processors, for the simulated hosts and bastions
	memory  int64         // peak, bytes
	workers int           // round trips of the worker that needed most
	control int           // and of the control plane
}

// slipway runs the binary, in a process of its own, and returns its standard output. It has to succeed, and to ask the simulated
// hosts only for what they do.
func (c *cluster) slipway(t testing.TB, args ...string) ([]byte, figures) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.binary, append(args, "-f", c.file())...) //nolint:gosec // the test's own arguments
	cmd.Env = append(os.Environ(), c.environment()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began, before := time.Now(), ownTime(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	memory := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	f := figures{hosts: len(c.servers), took: time.Since(began), rest: ownTime(t) - before, memory: <-memory}
	for _, what := range c.refused {
		t.Errorf("a simulated host was asked for what it does not do: %.2000s", what)
	}
	if err != nil {
		t.Fatalf("slipway %s: %v\n%.4000s", args[0], err, stderr.Bytes())
	}
	f.busy = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return stdout.Bytes(), f
}

// ownTime is the processor time that this process, with the simulated hosts in it, has taken.
func ownTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// run is `slipway plan`.
func (c *cluster) run(t testing.TB) (*plan.Plan, figures) {
	t.Helper()
	stdout, f := c.slipway(t, "plan", "--output", "json")
	for _, m := range c.infra.Machines {
		if trips := c.servers[m.Name].RoundTrips(); m.Role == spec.ControlPlane {
			f.control = max(f.control, trips)
		} else {
			f.workers = max(f.workers, trips)
		}
	}
	var plan plan.Plan
	if err := json.Unmarshal(stdout, &plan); err != nil {
		t.Fatalf("the plan: %v\n%s", err, stdout)
	}
	return &plan, f
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// watchMemory gives a process's peak of resident memory in bytes, once it has ended: the kernel's own peak, read again
// and again while it can be. rusage's would begin with what the test had when it forked.
func watchMemory(pid int) <-chan int64 {
	result := make(chan int64, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for last := int64(0); ; <-tick.C {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			found := peak.FindSubmatch(text)
			if err != nil || found == nil { // it has ended: a zombie has no memory
				result <- last
				return
			}
			if kb, err := strconv.ParseInt(string(found[1]), 10, 64); err == nil {
				last = kb << 10
			}
		}
	}()
	return result
}
