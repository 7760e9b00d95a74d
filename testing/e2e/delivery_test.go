package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLongDelivery is a cluster whose machines do not see the bundle: slipway copies what each needs,
// and they give it to each other. The order of the parts matters.
func TestLongDelivery(t *testing.T) {
	long(t)
	parallel(t, 5*time.Minute)
	c := newCluster(t, "e2e-delivery", clusterSpec{
		subnet: "10.88.34.0/24", controlPlanes: 3, workers: 1, local: "      bundle: copy\n",
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
	t.Run("mirror", func(t *testing.T) { c.checkFetching(t) })
	t.Run("full disk", func(t *testing.T) { c.checkDeliveryToFullDisk(t) })
	t.Run("another build", func(t *testing.T) { c.checkVersions(t) })
	t.Run("apply at last", func(t *testing.T) { c.checkNoChange(t) })
}

// arrived prints which programs have arrived whole, unpacked, and are not yet in place: the inode, a space and the path.
const arrived = `if cd /opt/slipway/.delivery 2>/dev/null; then find . -type f ! -path './.parts/*' ! -name '.new-*' -printf '%i %P\n'; fi`

// inodes are the lines of arrived by path.
func inodes(lines string) map[string]string {
	of := map[string]string{}
	for line := range strings.Lines(lines) {
		inode, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		of[path] = inode
	}
	return of
}

// arrivedParts prints the size and name of what has arrived, compressed, whole or not.
const arrivedParts = `if cd /opt/slipway/.delivery/.parts 2>/dev/null; then find . -type f -printf '%s %P\n' | sort -k 2; fi`

// parts are the sizes of what has arrived on a node, by name, and their sum.
func parts(ctx context.Context, node string) (sizes map[string]int64, sum int64, err error) {
	out, err := dockerContext(ctx, "exec", node, "sh", "-c", arrivedParts)
	sizes = map[string]int64{}
	for line := range strings.Lines(out) {
		size, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil {
			return nil, 0, err
		}
		sizes[name] = n
		sum += n
	}
	return sizes, sum, err
}

// bridge is the network interface through which this computer, and no other machine, sends to a node.
func bridge(ctx context.Context, node string) (string, error) {
	id, err := dockerContext(ctx, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}", node)
	if err != nil || len(id) < 12 {
		return "", fmt.Errorf("network of %s: %q, %w", node, id, err)
	}
	return "br-" + id[:12], nil
}

// sent is how many bytes this computer has sent through an interface.
func sent(t *testing.T, device string) int64 {
	t.Helper()
	text, err := os.ReadFile("/sys/class/net/" + device + "/statistics/tx_bytes")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lie waits on a node until slipway serves there, and changes what it serves, but for what the node
// itself has not unpacked yet.
const lie = `cd /opt/slipway/.delivery; find . -type f ! -path './.parts/*' -exec sha256sum {} + | cut -c 1-64 >/tmp/unpacked
while :; do for p in $(pgrep -f 'delivery serve'); do for f in /proc/$p/fd/*; do
	t=$(readlink $f); b=${t##*/}
	case $t in /opt/slipway/.delivery/.parts/*) grep -qxF ${b%%.*} /tmp/unpacked && ! grep -qxF "$t" /tmp/lied 2>/dev/null || continue ;; *) continue ;; esac
	printf spoilt | dd of="$t" bs=1 seek=100 conv=notrunc status=none; echo "$t" >>/tmp/lied
done; done; done`

// checkDelivery kills an apply while it copies, with a narrow uplink. The next one goes on and sends
// nothing again, although one machine gives others what is spoilt, and another reaches no other.
func (c *cluster) checkDelivery(t *testing.T) {
	liar, lacking, walled := c.nodes()[0], c.nodes()[1], c.nodes()[3]
	var device string
	c.applyStoppedWhen(t, syscall.SIGKILL, "some programs have arrived", func(ctx context.Context) (err error) {
		if device == "" {
			found, err := bridge(ctx, liar)
			if err != nil {
				return err
			}
			if out, err := exec.CommandContext(ctx, "tc", "qdisc", "add", "dev", found, "root", "tbf", "rate", "80mbit", "burst", "128kb", "latency", "400ms").CombinedOutput(); err != nil {
				t.Logf("the uplink is as wide as it is: %s", out)
			}
			device = found
		}
		out, err := dockerContext(ctx, "exec", liar, "sh", "-c", arrived)
		if n := len(inodes(out)); err == nil && n < 4 {
			err = fmt.Errorf("%d programs", n)
		}
		return err
	})
	for _, node := range c.nodes() {
		eventually(t, 2*time.Minute, node+" serves no more", func(ctx context.Context) error {
			if out, err := dockerContext(ctx, "exec", node, "pgrep", "-f", "delivery serve"); err == nil {
				return fmt.Errorf("process %s", out)
			}
			return nil
		})
	}
	if out := docker(t, "exec", liar, "sh", "-c", "find /opt/slipway -path /opt/slipway/.delivery -prune -o ! -type d -print"); out != "" {
		t.Errorf("in place before all has arrived: %s", out)
	}
	docker(t, "exec", lacking, "rm", "-rf", "/opt/slipway/.delivery")
	docker(t, "exec", "-d", liar, "sh", "-c", lie)
	for _, chain := range []string{"INPUT", "OUTPUT"} {
		docker(t, "exec", walled, "iptables", "-I", chain, "-p", "tcp", "--dport", "10245", "-j", "DROP")
	}
	plan := c.ok(t, "plan", "-f", c.file)
	if !strings.Contains(plan.stdout, "MB to copy") || strings.Contains(plan.stdout, "removed on the host") {
		t.Errorf("the plan after the kill: %v", plan)
	}
	before, had, err := parts(t.Context(), walled)
	if err != nil {
		t.Fatal(err)
	}
	kept := inodes(docker(t, "exec", liar, "sh", "-c", arrived))
	began := sent(t, device)
	r := c.apply(t)
	for path, inode := range kept {
		if now := docker(t, "exec", liar, "stat", "-c", "%i", "/opt/slipway/"+path); now != inode {
			t.Errorf("%s was made again on %s", path, liar)
		}
	}
	t.Logf("this computer sent %d MB; %s had %d MB in %d parts", (sent(t, device)-began)>>20, walled, had>>20, len(before))
	if r.maxRSS > 250<<20 {
		t.Errorf("slipway used %d MB, more than 250: contents are not streamed", r.maxRSS>>20)
	}
	said := r.stdout + r.stderr
	for _, want := range []string{"copying programs: ", " left", liar + " gave ", "with another content than it should have", walled + " does not reach the other machines"} {
		if !strings.Contains(said, want) {
			t.Errorf("apply does not say %q", want)
		}
	}
	if n := strings.Count(said, walled+" does not reach"); n != 1 {
		t.Errorf("it was said %d times that %s reaches nobody", n, walled)
	}
	for _, chain := range []string{"INPUT", "OUTPUT"} {
		docker(t, "exec", walled, "iptables", "-D", chain, "-p", "tcp", "--dport", "10245", "-j", "DROP")
	}
	docker(t, "exec", liar, "pkill", "-f", "spoilt")
	for _, node := range c.nodes() {
		if out := docker(t, "exec", node, "sh", "-c", "pgrep -af 'delivery [s]erve'; ls -d /run/slipway-delivery.* 2>/dev/null; ss -Htln sport = :10245"); out != "" {
			t.Errorf("left on %s: %s", node, out)
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
