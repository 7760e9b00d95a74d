package e2e

import (
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/machines"
)

// TestHosts takes bare machines to a highly available cluster: Debian 12 and 13, reached only through two bastions, as a user
// whose sudo asks for a password, with keys in an agent, keys of hosts in known_hosts, private addresses on a network of
// their own, and nothing of this computer mounted.
func TestHosts(t *testing.T) {
	parallel(t, 3*time.Minute)
	c := newHostsCluster(t, machines.Layout{
		Name: "e2e-hosts", Subnet: "10.89.0.0/22", Bastions: 2,
		Machines: []machines.Spec{
			{Name: "e2e-hosts-cp-1", System: machines.Debian12},
			{Name: "e2e-hosts-cp-2", System: machines.Debian13},
			{Name: "e2e-hosts-cp-3", System: machines.Debian12},
			{Name: "e2e-hosts-worker-1", System: machines.Debian13},
		},
	}, clusterSpec{controlPlanes: 3, workers: 1})
	for _, node := range c.nodes() {
		c.bare(t, node)
	}
	if !t.Run("apply", func(t *testing.T) { c.apply(t) }) {
		t.FailNow()
	}
	t.Run("second plan", func(t *testing.T) {
		if r := c.ok(t, "plan", "-f", c.file, "--detailed-exitcode"); !strings.Contains(r.stdout+r.stderr, "No changes.") {
			t.Error(r)
		}
	})
	k := c.kube(t)
	c.waitReady(t, k, 30*time.Second)
	for _, node := range c.nodes() {
		c.checkUnits(t, node)
		c.nothingCut(t, node)
		m := c.fleet.Machine(node)
		if out := k.ctl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`); out != m.Private.String() {
			t.Errorf("the address of node %s is %s, want %s", node, out, m.Private)
		}
		c.noPassword(t, m)
	}
	if images := k.ctl(t, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.osImage}"); !strings.Contains(images, "bookworm") || !strings.Contains(images, "trixie") {
		t.Errorf("the nodes run %s", images)
	}
	t.Run("apply again", func(t *testing.T) { c.checkNoChange(t) })
}

// noPassword wants the password for sudo nowhere: not in what the machine remembers, and not in the state.
func (c *hostsCluster) noPassword(t *testing.T, m *machines.Machine) {
	t.Helper()
	if out := m.MustRun(t, "journalctl -q | grep -F "+c.fleet.Password+" || true"); out != "" {
		t.Errorf("the journal of %s has the password for sudo: %s", m.Name, out)
	}
	c.walk(t, func(path, content string) {
		if strings.Contains(content, c.fleet.Password) {
			t.Errorf("%s has the password for sudo", path)
		}
	})
}
