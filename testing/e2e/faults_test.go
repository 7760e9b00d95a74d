package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestThreeControlPlanes kills the first apply with SIGKILL while units start, and wants the next one to end in a healthy
// cluster. Then one of its machines is cut off.
func TestThreeControlPlanes(t *testing.T) {
	parallel(t, 150*time.Second)
	c := newCluster(t, "e2e-three", clusterSpec{subnet: "10.88.12.0/24", controlPlanes: 3})
	c.killedOnce(t, "some host has begun to start etcd", onSomeHost("systemctl is-active etcd | grep activ")(c))
	t.Run("cut off", func(t *testing.T) { c.checkCutOff(t) })
}

// TestLongKilled does this at earlier moments.
func TestLongKilled(t *testing.T) {
	long(t)
	parallel(t, 3*time.Minute)
	for i, p := range []struct {
		name, what string
		reached    func(c *cluster) func(ctx context.Context) error
	}{
		{"machines", "the first machine exists", (*cluster).someMachine},
		{"files", "some host has its first certificate", onSomeHost("ls /etc/kubernetes/pki/*.crt")},
	} {
		t.Run(p.name, func(t *testing.T) {
			c := newCluster(t, "e2e-kill"+p.name, clusterSpec{subnet: fmt.Sprintf("10.88.%d.0/24", 10+i), controlPlanes: 3})
			c.killedOnce(t, p.what, p.reached(c))
		})
	}
}

// killedOnce kills the first apply when what is reached, and wants the second to end in a healthy cluster.
func (c *cluster) killedOnce(t *testing.T, what string, reached func(ctx context.Context) error) {
	t.Helper()
	c.applyStoppedWhen(t, os.Kill, what, reached)
	c.apply(t)
	c.waitReady(t, c.kube(t), 10*time.Second)
	for _, node := range c.nodes() {
		c.checkUnits(t, node)
	}
	c.checkEtcd(t, c.nodes()[0])
	c.checkNoChange(t)
}

// someMachine is met when a container of the cluster exists.
func (c *cluster) someMachine() func(ctx context.Context) error {
	return func(ctx context.Context) error {
		out, err := dockerContext(ctx, "ps", "-q", "--filter", "name="+c.name)
		if err == nil && out == "" {
			err = fmt.Errorf("no container")
		}
		return err
	}
}

// onSomeHost is met when a script succeeds on any of the cluster's machines.
func onSomeHost(script string) func(c *cluster) func(ctx context.Context) error {
	return func(c *cluster) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			var err error
			for _, node := range c.nodes() {
				if _, err = dockerContext(ctx, "exec", node, "sh", "-c", script); err == nil {
					return nil
				}
			}
			return err
		}
	}
}

// TestFaults breaks one thing after another during the first applies of one cluster; each must be named clearly, and
// the last apply, with everything mended, finishes the job.
func TestFaults(t *testing.T) {
	parallel(t, 50*time.Second)
	c := newCluster(t, "e2e-fault", clusterSpec{subnet: "10.88.3.0/24", controlPlanes: 1, workers: 1})
	worker := c.nodes()[1]
	interrupted := c.applyStoppedWhen(t, os.Interrupt, "every machine answers SSH", func(ctx context.Context) error {
		for _, node := range c.nodes() {
			if _, err := dockerContext(ctx, "exec", node, "systemctl", "is-active", "ssh"); err != nil {
				return err
			}
		}
		return nil
	})
	if interrupted.code != 130 {
		t.Errorf("want exit code 130 after an interrupt: %v", interrupted)
	}
	wantError(t, interrupted, "slipway apply -f "+c.file) // how to go on
	t.Run("full disk", func(t *testing.T) { c.checkFullDisk(t, worker) })
	t.Run("wrong host key", func(t *testing.T) { c.checkWrongHostKey(t, worker) })
	t.Run("unreachable", func(t *testing.T) { c.checkUnreachable(t, worker) })
	t.Run("frozen", func(t *testing.T) { c.checkFrozen(t, worker) })
	t.Run("mended", func(t *testing.T) {
		c.apply(t)
		k := c.kube(t)
		c.waitReady(t, k, 10*time.Second)
		c.checkNoChange(t)
	})
	t.Run("full disk of a running cluster", func(t *testing.T) { c.checkFullDisk(t, worker) })
}

// checkFullDisk leaves no room where configuration goes on one machine.
func (c *cluster) checkFullDisk(t *testing.T, node string) {
	t.Helper()
	id := c.machine(t, node)
	docker(t, "exec", id, "sh", "-ec", `mkdir -p /etc/kubernetes; cp -a /etc/kubernetes /root/aside
mount -t tmpfs -o size=1m none /etc/kubernetes; cp -a /root/aside/. /etc/kubernetes/; rm -r /root/aside
cat /dev/zero > /etc/kubernetes/filler 2>/dev/null || true`)
	mended := false
	mend := func() {
		if !mended {
			docker(t, "exec", id, "umount", "/etc/kubernetes")
		}
		mended = true
	}
	defer mend()
	spec := c.spec
	c.spec.extra += "  network:\n    proxyMode: iptables\n" // something to write, also where all is in place
	c.write(t, c.spec)
	c.applyFails(t, node, "/etc/kubernetes", "No space left on device")
	mend()
	c.write(t, spec)
}

// checkWrongHostKey has a machine show another host key than the one that was pinned for it.
func (c *cluster) checkWrongHostKey(t *testing.T, node string) {
	t.Helper()
	id := c.machine(t, node)
	docker(t, "exec", id, "sh", "-ec", `mkdir /root/keys; cp -a /etc/ssh/ssh_host_* /root/keys; rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh`)
	defer docker(t, "exec", id, "sh", "-ec", `rm /etc/ssh/ssh_host_*; cp -a /root/keys/. /etc/ssh/; rm -r /root/keys; systemctl restart ssh`)
	c.applyFails(t, node, "shows the key ssh-ed25519", "pinned", "Hint: ")
}

// checkUnreachable drops what comes to a machine's sshd, as a firewall or a dead network does: nothing ever answers.
func (c *cluster) checkUnreachable(t *testing.T, node string) {
	t.Helper()
	id := c.machine(t, node)
	docker(t, "exec", id, "iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
	defer docker(t, "exec", id, "iptables", "-D", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
	began := time.Now()
	r := c.run(t, nil, "apply", "-f", c.file, "--yes", "--connect-timeout", "5s")
	if r.code != 1 {
		t.Errorf("want exit code 1: %v", r)
	}
	wantError(t, r, node, "no SSH at 127.0.0.1:", "after 5s")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to say that a machine does not answer", took)
	}
}

// checkFrozen stops a machine's time: to Docker it runs, but nothing in it does.
func (c *cluster) checkFrozen(t *testing.T, node string) {
	t.Helper()
	id := c.machine(t, node)
	docker(t, "pause", id)
	defer docker(t, "unpause", id)
	c.applyFails(t, node, "paused")
}

// TestMissingDocker wants one clear error where no engine answers, and nothing made.
func TestMissingDocker(t *testing.T) {
	for name, socket := range map[string]string{
		"no socket": "unix://" + t.TempDir() + "/docker.sock",
		"refused":   "tcp://127.0.0.1:1",
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "e2e-nodocker", clusterSpec{subnet: "10.88.4.0/24", controlPlanes: 1})
			c.env = []string{"DOCKER_HOST=" + socket}
			c.applyFails(t, "ocker", socket, "DOCKER_HOST") // what, where, and what to set right
			c.env = nil
		})
	}
}

// TestInvalidSpec wants mistakes shown with their place, exit code 3, and nothing touched. That every mistake is found
// is tested where specs are loaded; here it is what a user sees.
func TestInvalidSpec(t *testing.T) {
	c := newCluster(t, "e2e-invalid", clusterSpec{subnet: "10.88.5.0/24", controlPlanes: 2})
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), "role: control-plane", "role: control-plain\n    colour: red", 1)
	if err := os.WriteFile(c.file, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	line := 1 + strings.Count(broken[:strings.Index(broken, "control-plain")], "\n")
	for _, args := range [][]string{{"apply", "-f", c.file, "--yes"}, {"validate", "-f", c.file}} {
		r := c.run(t, nil, args...)
		if r.code != 3 {
			t.Errorf("want exit code 3: %v", r)
		}
		for _, want := range []string{
			fmt.Sprintf("%s:%d:11", c.file, line), "control-plain", // the role's value
			fmt.Sprintf("%s:%d:5", c.file, line+1), "colour", // the unknown field's name
		} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("want %q in: %v", want, r)
			}
		}
	}
	if _, err := os.Stat(c.state); !os.IsNotExist(err) {
		t.Errorf("the state directory was touched: %v", err)
	}
	c.mustBeAbsent(t)
	// What destroys it needs a spec that loads.
	c.write(t, clusterSpec{subnet: "10.88.5.0/24", controlPlanes: 1})
}
