package e2e

import (
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/machines"
)

// documented are the rows of docs/ports.md that a cluster cannot do without, and SSH: port, protocol, from, to.
func documented(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/ports.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+)/(tcp|udp) \| ([^|]+) \| ([^|]+) \|[^|]*\| ?([^|]*) ?\|$`)
	var rows [][]string
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[3] == "operator" || strings.TrimSpace(m[5]) != "if you want it" {
			rows = append(rows, m[1:5])
		}
	}
	if len(rows) < 5 {
		t.Fatalf("docs/ports.md has %d rows, expected at least 5: has its form changed?", len(rows))
	}
	return rows
}

// closeOthers lets in what docs/ports.md says, from whom it says, and drops all else.
func (c *hostsCluster) closeOthers(t *testing.T) {
	t.Helper()
	addresses := func(side string) (of []netip.Prefix) {
		if side == "operator" {
			return nil // anyone: with bastions, it is the last of them
		}
		nodes := c.nodes()
		if side == "control planes" {
			nodes = c.controlPlanes()
		}
		for _, node := range nodes {
			of = append(of, netip.PrefixFrom(c.fleet.Machine(node).Private, 32))
		}
		return of
	}
	for _, node := range c.nodes() {
		var ports []machines.Port
		for _, row := range documented(t) {
			if row[3] == "control planes" && !strings.Contains(node, "-cp-") {
				continue
			}
			number, err := strconv.Atoi(row[0])
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, machines.Port{Protocol: row[1], Number: number, From: addresses(row[2])})
		}
		c.fleet.Machine(node).Firewall(t, ports)
	}
}

// TestLongHostsFirewall has machines that drop whatever docs/ports.md does not list, from before the first apply: a control plane
// and a worker in containers, and a worker with a kernel of its own (user-mode Linux), which has cgroup v2, the systemd driver
// and kube-proxy in the mode ipvs. Everything works.
func TestLongHostsFirewall(t *testing.T) {
	long(t)
	parallel(t, 8*time.Minute)
	c := newHostsCluster(t, machines.Layout{
		Name: "e2e-hostsfire", Subnet: "10.89.8.0/22",
		Machines: []machines.Spec{
			{Name: "e2e-hostsfire-cp-1", System: machines.Debian12},
			{Name: "e2e-hostsfire-worker-1", System: machines.Debian13},
			{Name: "e2e-hostsfire-own-1", System: machines.UML},
		},
	}, clusterSpec{controlPlanes: 1, workers: 1, own: 1})
	own := c.fleet.Machine(c.nodes()[2])
	c.closeOthers(t)
	c.ok(t, "apply", "-f", c.file, "--yes")
	k := c.kube(t)
	c.waitReady(t, k, time.Minute)
	if out := own.MustRun(t, "stat -fc %T /sys/fs/cgroup; grep -h cgroupDriver -r /etc/kubernetes /var/lib/kubelet/config* 2>/dev/null | sort -u"); !strings.HasPrefix(out, "cgroup2fs") ||
		!strings.Contains(out, "systemd") {
		t.Errorf("the worker's own kernel has %s", out)
	}
	c.deliverServer(t)
	pods := c.startServers(t, k)
	if out := own.MustRun(t, "curl -sS http://127.0.0.1:10249/proxyMode; ipvsadm -Ln"); !strings.HasPrefix(out, "ipvs") || !strings.Contains(out, "10.96.0.1:443") {
		t.Errorf("kube-proxy: %s", out)
	}
	c.checkNetwork(t, k, pods)
	c.checkKubelets(t, k, pods)
	c.checkNoChange(t)
}
