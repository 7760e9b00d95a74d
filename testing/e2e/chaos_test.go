package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// strike interrupts a slipway that is at a step boundary.
type strike func(c *cluster, t *testing.T, slipway *os.Process)

// TestChaos interrupts an install at one step boundary after another, each time in another run, by killing slipway, until
// nothing is left to interrupt. In the end the cluster is healthy, and nothing that a step had done was done again. One step
// runs at a time, so that a boundary is one.
func TestChaos(t *testing.T) {
	parallel(t, 30*time.Second)
	c := newCluster(t, "e2e-chaos", clusterSpec{subnet: "10.88.20.0/24", controlPlanes: 1, workers: 1})
	points := c.survive(t, (*cluster).kill)
	c.checkWhole(t)
	c.wantBoundaries(t, points, 6)
}

// TestLongChaosKill does this to an install and a reconfiguration of three control planes.
func TestLongChaosKill(t *testing.T) {
	long(t)
	parallel(t, 3*time.Minute)
	newCluster(t, "e2e-chaos-kill", clusterSpec{subnet: "10.88.21.0/24", controlPlanes: 3, workers: 1}).chaos(t, (*cluster).kill)
}

// TestLongChaosCut cuts all SSH connections instead.
func TestLongChaosCut(t *testing.T) {
	long(t)
	parallel(t, 3*time.Minute)
	newCluster(t, "e2e-chaos-cut", clusterSpec{subnet: "10.88.22.0/24", controlPlanes: 3, workers: 1}).chaos(t, (*cluster).cut)
}

// chaos interrupts an install, and then a reconfiguration.
func (c *cluster) chaos(t *testing.T, strike strike) {
	t.Helper()
	points := c.survive(t, strike)
	c.checkWhole(t)
	spec := c.spec
	spec.kubernetes = "    apiServer: {extraArgs: {event-ttl: 2h}}\n    kubelet: {configPatch: {maxPods: 77}}\n"
	spec.workerLabels = "tier: web"
	c.write(t, spec)
	points += c.survive(t, strike)
	c.checkWhole(t)
	c.wantBoundaries(t, points, 20)
}

func (c *cluster) wantBoundaries(t *testing.T, points, least int) {
	t.Helper()
	if points < least {
		t.Errorf("slipway was interrupted at %d boundaries, want at least %d", points, least)
	}
	t.Logf("interrupted at %d step boundaries", points)
}

func (c *cluster) kill(t *testing.T, slipway *os.Process) {
	t.Helper()
	if err := slipway.Kill(); err != nil {
		t.Fatal(err)
	}
}

// cut ends every SSH session on every machine. Slipway stands still meanwhile, so that the boundary stays one.
func (c *cluster) cut(t *testing.T, slipway *os.Process) {
	t.Helper()
	if err := slipway.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, node := range c.nodes() {
		docker(t, "exec", c.machine(t, node), "sh", "-c", `pkill -f '^sshd: root' || true`)
	}
	if err := slipway.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) checkWhole(t *testing.T) {
	t.Helper()
	c.waitReady(t, c.kube(t), 10*time.Second)
	for _, node := range c.nodes() {
		c.checkUnits(t, node)
	}
	c.checkEtcd(t, c.nodes()[0])
	c.checkNothingPlanned(t)
}

// survive runs apply again and again, and strikes each time after one step, until it comes to its end. Where an attempt
// changed nothing, since what came before was a gate, the next one gets one step more. It gives the number of boundaries at
// which it struck.
func (c *cluster) survive(t *testing.T, strike strike) int {
	t.Helper()
	done := map[string]string{} // what was changed, and in which attempt
	steps := 1
	for attempt := 0; ; attempt++ {
		if attempt > 120 {
			t.Fatal("apply does not come to an end")
		}
		finished, output := c.struck(t, steps, strike)
		before := len(done)
		c.noteDone(t, attempt, output, done)
		if t.Failed() {
			t.Fatalf("attempt %d printed:\n%s", attempt, output)
		}
		if finished {
			return attempt
		}
		steps++
		if len(done) > before {
			steps = 1
		}
	}
}

// noteDone adds what the last run has changed, and wants it to have begun nothing that was done before.
func (c *cluster) noteDone(t *testing.T, attempt int, output string, done map[string]string) {
	t.Helper()
	for _, s := range c.lastRun(t).Steps {
		began := s.State != "pending" && s.State != "skipped"
		for _, change := range changedBy(s.Host, s.Changes) {
			if before := done[change]; began && before != "" {
				t.Errorf("%q was done in %s, and again in attempt %d", change, before, attempt)
			}
		}
		if !strings.Contains(output, s.Name+" ... done") {
			continue
		}
		for _, change := range changedBy(s.Host, s.Changes) {
			done[change] = fmt.Sprintf("attempt %d by %q", attempt, s.Name)
		}
	}
}

// struck runs apply and strikes when some steps are done. It says whether apply was done before that.
func (c *cluster) struck(t *testing.T, steps int, strike strike) (finished bool, output string) {
	t.Helper()
	cmd := c.command(t.Context(), "apply", "-f", c.file, "--yes", "--parallelism", "1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, all bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(io.TeeReader(stderr, &all))
	done := 0
	for lines.Scan() {
		if strings.Contains(lines.Text(), " ... done") {
			if done++; done == steps {
				strike(c, t, cmd.Process)
			}
		}
	}
	err = cmd.Wait()
	if err != nil && done < steps {
		t.Fatalf("apply failed by itself: %v\n%s", err, &all)
	}
	lost := strings.Contains(all.String(), "lost the connection")
	if code := cmd.ProcessState.ExitCode(); err != nil && code != -1 && (code != 1 || !lost) { // -1: it was killed
		t.Fatalf("exit code %d, and the lost connection is named: %t\n%s", code, lost, &all)
	}
	return err == nil, all.String()
}
