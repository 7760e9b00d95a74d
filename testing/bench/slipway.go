package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/testing/bench/page"
)

// topology is a cluster to make.
type topology struct {
	name, subnet           string
	controlPlanes, workers int
	local                  string // YAML under spec.provider.local
}

func (c topology) nodes() []string {
	var names []string
	for i := range c.controlPlanes {
		names = append(names, fmt.Sprintf("%s-cp-%d", c.name, i+1))
	}
	for i := range c.workers {
		names = append(names, fmt.Sprintf("%s-worker-%d", c.name, i+1))
	}
	return names
}

// slipwayRun is one cluster, made and removed.
type slipwayRun struct {
	ready   time.Duration // from SSH on every machine to all nodes Ready
	usable  time.Duration // and to CoreDNS available
	done    time.Duration // from SSH on every machine to the end of apply
	nothing time.Duration // from the start of apply, with no machine there, to its end
	noop    time.Duration // a second apply
	maxRSS  int64         // bytes, of the first apply
	machine machine
}

// measureSlipway makes a cluster, applies again, and removes it.
func (b *bench) measureSlipway(ctx context.Context, c topology) (r slipwayRun, err error) {
	file, err := b.writeSpec(c)
	if err != nil {
		return r, err
	}
	defer func() {
		// Also after an interrupt: a benchmark leaves nothing behind.
		_, derr := b.runSlipway(context.WithoutCancel(ctx), "destroy", "-f", file, "--yes")
		err = errors.Join(err, derr)
	}()
	if err := b.firstApply(ctx, c, file, &r); err != nil {
		return r, err
	}
	if r.noop, err = b.secondApply(ctx, file); err != nil {
		return r, err
	}
	r.machine, err = b.machineForm(ctx, c.nodes()[0])
	progress("  Ready %s after SSH, CoreDNS %s, apply done %s after SSH and %s after its start; no-op %s; %d MB",
		seconds(r.ready), seconds(r.usable), seconds(r.done), seconds(r.nothing), seconds(r.noop), r.maxRSS>>20)
	return r, err
}

// firstApply runs apply with nothing there, and watches from outside when SSH answers and when the nodes are Ready.
func (b *bench) firstApply(ctx context.Context, c topology, file string, r *slipwayRun) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // the warming up may have to build the bundle
	defer cancel()
	cmd := b.command(ctx, "apply", "-f", file, "--yes")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	memory := watchMemory(cmd.Process.Pid)
	watched := make(chan error, 1)
	var ssh, ready, usable time.Time
	go func() {
		watched <- func() (err error) {
			if err = b.waitSSH(ctx, c.nodes()); err != nil {
				return err
			}
			ssh = time.Now()
			ready, usable, err = b.watch(ctx, c, file)
			return err
		}()
	}()
	err := cmd.Wait()
	end := time.Now()
	if err != nil {
		cancel()
		return fmt.Errorf("slipway apply: %w\n%s", errors.Join(err, <-watched), out.Bytes())
	}
	if err := <-watched; err != nil {
		return err
	}
	r.nothing, r.done = end.Sub(began), end.Sub(ssh)
	r.ready, r.usable = ready.Sub(ssh), usable.Sub(ssh)
	r.maxRSS = <-memory
	return nil
}

// watchMemory gives a process's peak of resident memory in bytes, once it has ended. It reads the kernel's own peak
// (VmHWM), again and again while it can: rusage's would begin with what this program had when it forked.
func watchMemory(pid int) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		var last int64
		for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
			field := page.ProcField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM")
			kb, err := strconv.ParseInt(strings.TrimSuffix(field, " kB"), 10, 64)
			if err != nil { // it has ended: a zombie has no memory
				tick.Stop()
				peak <- last
				return
			}
			last = kb << 10
		}
	}()
	return peak
}

// secondApply must find nothing to do.
func (b *bench) secondApply(ctx context.Context, file string) (time.Duration, error) {
	began := time.Now()
	out, err := b.command(ctx, "apply", "-f", file, "--yes").CombinedOutput()
	took := time.Since(began)
	if err == nil && !strings.Contains(string(out), "No changes.") {
		err = errors.New("it changed something")
	}
	if err != nil {
		return 0, fmt.Errorf("second slipway apply: %w:\n%s", err, out)
	}
	return took, nil
}

// watch follows the cluster through the kubeconfig that slipway gives as soon as there is one.
func (b *bench) watch(ctx context.Context, c topology, file string) (ready, usable time.Time, err error) {
	var kubeconfig []byte
	err = poll(ctx, 2*time.Minute, "a kubeconfig", func() (err error) {
		kubeconfig, err = b.runSlipway(ctx, "kubeconfig", "-f", file)
		return err
	})
	if err != nil {
		return ready, usable, err
	}
	seen, err := newObserver(kubeconfig)
	if err != nil {
		return ready, usable, err
	}
	if err := seen.waitReady(ctx, len(c.nodes())); err != nil {
		return ready, usable, err
	}
	ready = time.Now()
	err = seen.waitDNS(ctx)
	return ready, time.Now(), err
}

func (b *bench) writeSpec(c topology) (string, error) {
	text := fmt.Sprintf(`apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata:
  name: %s
spec:
  kubernetes:
    version: %s
  provider:
    local:
      subnet: %s
%s  nodePools:
  - name: cp
    role: control-plane
    replicas: %d
`, c.name, kubernetesVersion, c.subnet, c.local, c.controlPlanes)
	if c.workers > 0 {
		text += fmt.Sprintf("  - name: worker\n    role: worker\n    replicas: %d\n", c.workers)
	}
	file := filepath.Join(b.dir, c.name+".yaml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (b *bench) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.slipway, args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_STATE_DIR="+filepath.Join(b.dir, "state"), "SLIPWAY_CACHE_DIR="+b.cache)
	return cmd
}

// runSlipway returns its stdout; an error carries what it wrote to stderr.
func (b *bench) runSlipway(ctx context.Context, args ...string) ([]byte, error) {
	cmd := b.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("slipway %s: %w: %s", args[0], err, stderr.Bytes())
	}
	return out, err
}
