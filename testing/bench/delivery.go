package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// deliveryHeading is that of the section of docs/benchmarks.md about delivery.
const deliveryHeading = "Copies to machines without the bundle"

// maxCopies is how much of one compressed copy this computer may send to eight machines.
const maxCopies = 1.3

// deliveryRun is one cluster that gets copies, and then the same files from scp.
type deliveryRun struct {
	machines       int
	copy           int64 // bytes of one compressed copy: what a control plane gets
	took, scpTook  time.Duration
	sent, scpBytes int64
}

// measureDeliveries measures clusters of so many machines, one after another.
func (b *bench) measureDeliveries(ctx context.Context) (runs []deliveryRun, err error) {
	for _, n := range b.machines {
		progress("copies to %d machines, with an uplink of %d Mbit/s", n, b.uplink)
		r, err := b.measureDelivery(ctx, topology{name: "bench-copies", subnet: "10.87.3.0/24", controlPlanes: 1, workers: n - 1})
		if err != nil {
			return runs, err
		}
		progress("  slipway: %s, %d MB; scp: %s, %d MB; one compressed copy is %d MB", seconds(r.took), r.sent>>20, seconds(r.scpTook), r.scpBytes>>20, r.copy>>20)
		runs = append(runs, r)
	}
	return runs, nil
}

// measureDelivery makes machines, and interrupts apply when all have their copies.
func (b *bench) measureDelivery(ctx context.Context, c topology) (r deliveryRun, err error) {
	c.local = "      bundle: copy\n"
	file, err := b.writeSpec(c)
	if err != nil {
		return r, err
	}
	defer func() {
		_, derr := b.runSlipway(context.WithoutCancel(ctx), "destroy", "-f", file, "--yes")
		err = errors.Join(err, derr)
	}()
	r.machines = len(c.nodes())
	cmd := b.command(ctx, "apply", "-f", file, "--yes", "-v")
	out, err := cmd.StderrPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	device, err := b.watchDelivery(ctx, c, out, &r)
	_ = cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // interrupted
	if err != nil {
		return r, err
	}
	return r, b.scp(ctx, c, device, &r)
}

// watchDelivery reads what apply says. The clock begins when the machines are there and the uplink is narrow.
func (b *bench) watchDelivery(ctx context.Context, c topology, out io.Reader, r *deliveryRun) (device string, err error) {
	var began time.Time
	var sent int64
	done := 0
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		said.WriteString(line + "\n")
		switch {
		case strings.HasSuffix(line, " converge"):
			if device, err = b.narrow(ctx, c.nodes()[0]); err != nil {
				return "", err
			}
			if sent, err = transmitted(device); err != nil {
				return "", err
			}
			began = time.Now()
		case strings.Contains(line, ": copy programs ... done"):
			if done++; done == r.machines {
				r.took = time.Since(began)
				now, err := transmitted(device)
				r.sent = now - sent
				return device, err
			}
		}
	}
	return "", fmt.Errorf("apply ended with %d of %d machines served:\n%s", done, r.machines, &said)
}

// narrow limits what this computer sends to the network of a machine, and what its machines send to each other not at all.
func (b *bench) narrow(ctx context.Context, node string) (device string, err error) {
	found, err := b.docker.ContainerInspect(ctx, node, client.ContainerInspectOptions{})
	if err != nil {
		return "", err
	}
	for _, n := range found.Container.NetworkSettings.Networks {
		device = "br-" + n.NetworkID[:12]
	}
	cmd := exec.CommandContext(ctx, "tc", "qdisc", "add", "dev", device, "root", "tbf", //nolint:gosec // a benchmark's own device
		"rate", fmt.Sprintf("%dmbit", b.uplink), "burst", "64kb", "latency", "400ms")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("limit the uplink: %w: %s", err, out)
	}
	return device, nil
}

// transmitted is how many bytes this computer has sent through a bridge; those between its ports do not count.
func transmitted(device string) (int64, error) {
	text, err := os.ReadFile("/sys/class/net/" + device + "/statistics/tx_bytes") //nolint:gosec // a device's counter
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
}

// scp sends to each machine what it has, in parallel, as people would.
func (b *bench) scp(ctx context.Context, c topology, device string, r *deliveryRun) error {
	key := filepath.Join(b.dir, "state", c.name, "machines", "id_ed25519")
	if found, _ := filepath.Glob(filepath.Join(b.dir, "state", c.name, "*", "id_ed25519")); len(found) == 1 {
		key = found[0]
	}
	files := map[string][]string{}
	for _, node := range c.nodes() {
		names, err := exec.CommandContext(ctx, "docker", "exec", node, "find", "/opt/slipway", "-type", "f", "!", "-path", "*/.parts/*", "-printf", "%f\n").Output()
		if err != nil {
			return fmt.Errorf("what %s has: %w", node, err)
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(names))))) {
			file, err := b.local(name)
			if err != nil {
				return err
			}
			files[node] = append(files[node], file)
		}
	}
	for _, file := range files[c.nodes()[0]] {
		size, err := b.packed(file)
		if err != nil {
			return err
		}
		r.copy += size
	}
	before, err := transmitted(device)
	if err != nil {
		return err
	}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for node, files := range files {
		group.Go(func() error {
			address, err := exec.CommandContext(ctx, "docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", node).Output()
			if err != nil {
				return err
			}
			args := []string{"-q", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
			args = append(append(args, files...), "root@"+strings.TrimSpace(string(address))+":/var/tmp/")
			if out, err := exec.CommandContext(ctx, "scp", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("scp to %s: %w: %s", node, err, out)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.scpTook = time.Since(began)
	after, err := transmitted(device)
	r.scpBytes = after - before
	return err
}

// local is the file of an artifact in the newest bundle.
func (b *bench) local(name string) (string, error) {
	var newest string
	var changed time.Time
	for _, dir := range []string{"bin", "images"} {
		found, _ := filepath.Glob(filepath.Join(b.cache, "bundles", "*", dir, name))
		for _, f := range found {
			if info, err := os.Stat(f); err == nil && info.ModTime().After(changed) {
				newest, changed = f, info.ModTime()
			}
		}
	}
	if newest == "" {
		return "", fmt.Errorf("no bundle in %s has %s", b.cache, name)
	}
	return newest, nil
}

// packed is the size of a file's compressed form.
func (b *bench) packed(file string) (int64, error) {
	content, err := os.Open(file) //nolint:gosec // of the cache
	if err != nil {
		return 0, err
	}
	defer func() { _ = content.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return 0, err
	}
	found, _ := filepath.Glob(filepath.Join(b.cache, "packed", hex.EncodeToString(sum.Sum(nil))+".*"))
	if len(found) == 0 {
		return 0, fmt.Errorf("%s is not packed", file)
	}
	info, err := os.Stat(found[0])
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// deliveryReport says what was measured.
func deliveryReport(args, facts string, uplink int, runs []deliveryRun) string {
	var w strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&w, format+"\n", a...) }
	p("Made by `make bench-delivery` (`go run ./testing/bench %s`). %s\n", args, facts)
	p("One control plane, and workers, that do not mount the bundle. What this computer sends to them is limited to %d Mbit/s", uplink)
	p("(`tc`, on the bridge of the machines); what they send to each other is not. All machines and this computer share the same")
	p("processors. The clock runs from when the machines are there until each has all its programs, unpacked and verified; they")
	p("were compressed before. Beside it, `scp` sends the same files, one process for each machine. Bytes are those of the")
	p("bridge, with all overhead.\n")
	p("| machines | slipway | sent | of one compressed copy | `scp` | sent |")
	p("|---|---|---|---|---|---|")
	for _, r := range runs {
		target := ""
		if r.machines == 8 {
			target = fmt.Sprintf(" (target: at most %.1f)", maxCopies)
		}
		p("| %d | %s | %d MB | %.2f%s | %s | %d MB |", r.machines, seconds(r.took), r.sent>>20, float64(r.sent)/float64(r.copy), target,
			seconds(r.scpTook), r.scpBytes>>20)
	}
	return w.String()
}
