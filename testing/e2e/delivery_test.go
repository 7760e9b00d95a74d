package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDelivery is a cluster whose machines do not see the bundle: slipway copies what each needs.
// The order of the parts matters.
func TestDelivery(t *testing.T) {
	parallel(t, time.Minute)
	c := newCluster(t, "e2e-delivery", clusterSpec{
		subnet: "10.88.34.0/24", controlPlanes: 1, workers: 1, local: "      bundle: copy\n",
	})
	if !t.Run("killed while it copies", func(t *testing.T) { c.checkDelivery(t) }) {
		t.FailNow()
	}
	k := c.kube(t)
	c.waitReady(t, k, 10*time.Second)
	for _, node := range c.nodes() {
		c.checkUnits(t, node)
	}
	c.checkImages(t)
	t.Run("programs", func(t *testing.T) { c.checkPrograms(t) })
	t.Run("apply again", func(t *testing.T) { c.checkNoChange(t) })
	t.Run("drift", func(t *testing.T) { c.checkDriftOfPrograms(t) })
	t.Run("full disk", func(t *testing.T) { c.checkDeliveryToFullDisk(t) })
	t.Run("apply at last", func(t *testing.T) { c.checkNoChange(t) })
}

// arrived prints what has arrived whole, and is not yet in place: the inode, a space and the path.
const arrived = `if cd /opt/slipway/.delivery 2>/dev/null; then find . -type f ! -path '*/.slipway-new-*' -printf '%i %P\n' | sort; fi`

// inodes are the lines of arrived by path.
func inodes(lines string) map[string]string {
	of := map[string]string{}
	for line := range strings.Lines(lines) {
		inode, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		of[path] = inode
	}
	return of
}

// checkDelivery kills an apply while it copies. The next one goes on, and sends nothing again.
func (c *cluster) checkDelivery(t *testing.T) {
	node := c.nodes()[0]
	c.applyStoppedWhen(t, syscall.SIGKILL, "some programs have arrived", func(ctx context.Context) error {
		out, err := dockerContext(ctx, "exec", node, "sh", "-c", arrived)
		if n := len(inodes(out)); err == nil && n < 3 {
			err = fmt.Errorf("%d files", n)
		}
		return err
	})
	eventually(t, time.Minute, "what was cut is gone", func(ctx context.Context) error {
		out, err := dockerContext(ctx, "exec", node, "find", "/opt", "-name", ".slipway-new-*")
		if err == nil && out != "" {
			err = fmt.Errorf("found %q", out)
		}
		return err
	})
	before := inodes(docker(t, "exec", node, "sh", "-c", arrived))
	if out := docker(t, "exec", node, "sh", "-c", "find /opt/slipway -path /opt/slipway/.delivery -prune -o ! -type d -print"); out != "" {
		t.Errorf("in place before all has arrived: %s", out)
	}
	plan := c.ok(t, "plan", "-f", c.file)
	if !strings.Contains(plan.stdout, "MB to copy") || strings.Contains(plan.stdout, "removed on the host") {
		t.Errorf("the plan after the kill: %v", plan)
	}
	r := c.apply(t)
	if r.maxRSS > 200<<20 {
		t.Errorf("slipway used %d MB, more than 200: contents are not streamed", r.maxRSS>>20)
	}
	if !strings.Contains(r.stdout+r.stderr, "copying ") {
		t.Errorf("nothing said what is copied: %v", r)
	}
	for path, inode := range before {
		if now := docker(t, "exec", node, "stat", "-c", "%i", "/opt/slipway/"+path); now != inode {
			t.Errorf("%s was sent again", path)
		}
	}
}

// checkPrograms wants copies, of what the node needs and no more.
func (c *cluster) checkPrograms(t *testing.T) {
	for i, node := range c.nodes() {
		if out := c.sshOK(t, node, `grep slipway-bundles /proc/mounts; ls -d /opt/slipway/.delivery 2>/dev/null; true`); out != "" {
			t.Errorf("%s has %s", node, out)
		}
		if out := c.sshOK(t, node, `find /opt/slipway -path '*/bin/*' -type f ! -perm 0755 -o -type f ! -user root -o -type f ! -group root -o -xtype l`); out != "" {
			t.Errorf("%s: modes or owners are wrong, or a link leads to nothing: %s", node, out)
		}
		etcd := c.sshOK(t, node, `find /opt/slipway -type f -name etcd`)
		if isControlPlane := i < c.spec.controlPlanes; (etcd != "") != isControlPlane {
			t.Errorf("%s has etcd in %q", node, etcd)
		}
	}
}

// checkDriftOfPrograms spoils two programs: one is sent again, and the other gets its mode back.
func (c *cluster) checkDriftOfPrograms(t *testing.T) {
	node := c.nodes()[1]
	const look = `find /opt/slipway -type f -printf '%i %m %p\n' | sort`
	before := c.sshOK(t, node, look)
	c.sshOK(t, node, `p=$(find /opt/slipway -type f -name crictl); echo more >>$p; chmod 0700 $(find /opt/slipway -type f -name runc)`)
	plan := c.ok(t, "plan", "-f", c.file)
	for _, want := range []string{"bin/crictl", "edited on the host", "bin/runc", "mode is 0700", "MB to copy"} {
		if !strings.Contains(plan.stdout, want) {
			t.Errorf("the plan does not say %q: %v", want, plan)
		}
	}
	c.apply(t)
	for line := range strings.Lines(c.sshOK(t, node, look)) {
		if !strings.Contains(before, line) && !strings.HasSuffix(line, "/crictl\n") {
			t.Errorf("changed although it was well: %s", line)
		}
	}
	c.sshOK(t, node, "crictl --version")
}

// checkDeliveryToFullDisk has no room on the worker: that is its error alone.
func (c *cluster) checkDeliveryToFullDisk(t *testing.T) {
	cp, worker := c.nodes()[0], c.nodes()[1]
	const spoil = `p=$(find /opt/slipway -type f -name crictl); echo more >>$p`
	for _, node := range c.nodes() {
		c.sshOK(t, node, spoil)
	}
	c.sshOK(t, worker, `mkdir /opt/slipway/.delivery; mount -t tmpfs -o size=1m tmpfs /opt/slipway/.delivery`)
	r := c.applyFails(t, worker, "No space left on device")
	if strings.Contains(r.stderr, cp+": No space") {
		t.Errorf("the control plane has room: %v", r)
	}
	c.sshOK(t, cp, "crictl --version")
	c.sshOK(t, worker, `umount /opt/slipway/.delivery`)
	c.apply(t)
	c.sshOK(t, worker, "crictl --version")
}
