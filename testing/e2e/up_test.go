package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCluster takes one cluster through its life, from nothing to nothing. The order of the parts matters: each leaves
// the cluster healthy for the next.
func TestCluster(t *testing.T) {
	parallel(t, 5*time.Minute)
	c := newCluster(t, "e2e-life", clusterSpec{subnet: "10.88.1.0/24", controlPlanes: 3, workers: 1})
	if !t.Run("apply", func(t *testing.T) {
		c.apply(t)
		c.waitReady(t, c.kube(t), 10*time.Second) // apply has waited already
		for _, node := range c.nodes() {
			c.checkUnits(t, node)
		}
		c.checkImages(t)
	}) {
		t.FailNow()
	}
	k := c.kube(t)
	t.Run("apply again", func(t *testing.T) { c.checkNoChange(t) })
	t.Run("status", func(t *testing.T) { c.checkStatus(t) })
	c.deliverServer(t)
	pods := c.startServers(t, k)
	t.Run("network nftables", func(t *testing.T) {
		c.checkProxyMode(t, "nftables")
		c.checkNetwork(t, k, pods)
	})
	t.Run("kubelets", func(t *testing.T) { c.checkKubelets(t, k, pods) })
	t.Run("network iptables", func(t *testing.T) {
		spec := c.spec
		spec.extra = "  network:\n    proxyMode: iptables\n"
		c.write(t, spec)
		c.apply(t)
		c.checkProxyMode(t, "iptables")
		c.checkNetwork(t, k, pods)
		c.checkNoChange(t)
	})
	t.Run("security", func(t *testing.T) { c.checkSecurity(t, k) })
	t.Run("identity provider", func(t *testing.T) { c.checkIdentityProvider(t, k) })
	t.Run("drift", func(t *testing.T) { c.checkDrift(t, k) })
	t.Run("reconfigure", func(t *testing.T) { c.checkReconfigure(t, k) })
	t.Run("saved plan", func(t *testing.T) { c.checkSavedPlan(t, k) })
	t.Run("infrastructure", func(t *testing.T) { c.checkResources(t) })
	t.Run("only", func(t *testing.T) { c.checkOnly(t) })
	t.Run("scaled DNS", func(t *testing.T) {
		k.ctl(t, "scale", "deployment", "coredns", "--namespace=kube-system", "--replicas=3")
		c.checkNoChange(t)
		k.ctl(t, "scale", "deployment", "coredns", "--namespace=kube-system", "--replicas=2")
	})
	t.Run("kubeconfig", func(t *testing.T) { c.checkMerge(t, k) })
	t.Run("without a control plane", func(t *testing.T) { c.checkSurvives(t, k, c.nodes()[0]) })
	t.Run("restart", func(t *testing.T) { c.checkRestart(t, k) })
	t.Run("apply at last", func(t *testing.T) { c.checkNoChange(t) })
}

// checkNoChange wants an apply that finds nothing to do, says so, and touches nothing.
func (c *cluster) checkNoChange(t *testing.T) {
	t.Helper()
	before := c.startTimes(t)
	r := c.apply(t)
	if !strings.Contains(r.stdout+r.stderr, "No changes.") {
		t.Errorf("want No changes.: %v", r)
	}
	if after := c.startTimes(t); after != before {
		t.Errorf("units were restarted; before:\n%s\nafter:\n%s", before, after)
	}
	if r.maxRSS > 150<<20 {
		t.Errorf("slipway used %d MB, more than 150", r.maxRSS>>20)
	}
}

// startTimes says when every unit on every node became active.
func (c *cluster) startTimes(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, node := range c.nodes() {
		units := append(append([]string{}, nodeUnits...), controlPlaneUnits...)
		all.WriteString(node + "\n" + c.sshOK(t, node, "systemctl show -p Id,ActiveEnterTimestampMonotonic,MainPID "+strings.Join(units, " ")))
	}
	return all.String()
}

// checkStatus wants every node in the status, as text and as JSON.
func (c *cluster) checkStatus(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"status", "-f", c.file}, {"status", "-f", c.file, "--output", "json"}} {
		r := c.ok(t, args...)
		for _, want := range append(c.nodes(), kubernetesVersion) {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("status does not mention %s: %v", want, r)
			}
		}
	}
}

// checkMerge wants `kubeconfig --merge` to add to what people have, and make the cluster current.
func (c *cluster) checkMerge(t *testing.T, k *kube) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	mine := "apiVersion: v1\nkind: Config\nusers:\n- name: mine\n  user: {token: abc}\n"
	if err := os.WriteFile(file, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"KUBECONFIG=" + file}
	c.ok(t, "kubeconfig", "-f", c.file, "--merge")
	c.env = nil
	merged := *k
	merged.kubeconfig = file
	if got := merged.ctl(t, "get", "nodes", "-o", "name"); strings.Count(got, "node/") != len(c.nodes()) {
		t.Errorf("kubectl get nodes with the merged file printed %q", got)
	}
	if got := merged.ctl(t, "config", "get-users"); !strings.Contains(got, "mine") {
		t.Errorf("what was in the file is gone; its users are %q", got)
	}

	foreign := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters:\n- name: %s\n  cluster: {server: 'https://192.0.2.1:6443'}\n", c.name)
	if err := os.WriteFile(file, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"KUBECONFIG=" + file}
	defer func() { c.env = nil }()
	if r := c.run(t, nil, "kubeconfig", "-f", c.file, "--merge"); r.code != 1 || !strings.Contains(r.stderr, "of another cluster") {
		t.Errorf("over another cluster's entry: %v", r)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != foreign {
		t.Errorf("the file was changed: %q, %v", text, err)
	}
	c.ok(t, "kubeconfig", "-f", c.file, "--merge", "--context", "renamed")
	if got := merged.ctl(t, "get", "nodes", "-o", "name"); strings.Count(got, "node/") != len(c.nodes()) {
		t.Errorf("kubectl get nodes as context renamed printed %q", got)
	}
}

// leavings of kube-proxy's modes, which the other mode must have removed: a command that prints nothing then.
var leavings = map[string]string{
	"nftables": "iptables-save | grep KUBE-S || true",
	"iptables": "nft list tables | grep kube-proxy || true",
}

// checkProxyMode asks kube-proxy on every node (its metrics port) which mode it runs in.
func (c *cluster) checkProxyMode(t *testing.T, mode string) {
	t.Helper()
	for _, node := range c.nodes() {
		eventually(t, 30*time.Second, node+": kube-proxy in mode "+mode, func(context.Context) error {
			r := c.ssh(t, node, "curl -sS --max-time 5 http://127.0.0.1:10249/proxyMode")
			if r.stdout != mode {
				return fmt.Errorf("got %q %s", r.stdout, r.stderr)
			}
			if left := c.sshOK(t, node, leavings[mode]); left != "" {
				return fmt.Errorf("rules of another mode are left: %s", left)
			}
			return nil
		})
	}
}

// TestSingleNode is the smallest cluster: one node that does everything.
func TestSingleNode(t *testing.T) {
	parallel(t, time.Minute)
	c := newCluster(t, "e2e-one", clusterSpec{subnet: "10.88.2.0/24", controlPlanes: 1})
	c.apply(t)
	c.waitReady(t, c.kube(t), 10*time.Second)
	c.checkUnits(t, c.nodes()[0])
	c.checkModes(t, c.nodes()[0])
	c.checkSandboxes(t, c.nodes()[0])
	c.checkEtcdOwner(t, c.nodes()[0])
	c.checkPodsBounded(t, c.nodes()[0])
	c.checkImages(t)
	c.checkMirror(t, c.nodes()[0])
	c.checkNoChange(t)
	c.checkLeftover(t, c.nodes()[0])
}

// checkLeftover wants apply, and no command that only reads, to wait until what a killed run has left at work on a host has
// ended, and to say so.
func (c *cluster) checkLeftover(t *testing.T, node string) {
	t.Helper()
	c.sshOK(t, node, `rm -f /tmp/finish
(exec 9>>/run/slipway.lock; flock 9; sh -c 'echo $$ >/run/slipway.lock; until [ -e /tmp/finish ]; do sleep 0.05; done'; touch /tmp/finished) >/dev/null 2>&1 &
until ! flock -n /run/slipway.lock true; do sleep 0.05; done`)
	c.ok(t, "plan", "-f", c.file)
	cmd := c.command(t.Context(), "apply", "-f", c.file, "--yes")
	said := &watched{seen: make(chan struct{}), begin: node, word: "waits for work of an earlier run: process "}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-said.seen:
	case err := <-ended:
		t.Fatalf("apply did not wait: %v\n%s", err, said.text.String())
	case <-time.After(time.Minute):
		t.Fatal("apply says nothing")
	}
	time.Sleep(time.Second) // an apply that has nothing to do takes half of that
	select {
	case err := <-ended:
		t.Fatalf("apply did not wait: %v\n%s", err, said.text.String())
	default:
	}
	c.sshOK(t, node, "touch /tmp/finish")
	if err := <-ended; err != nil {
		t.Errorf("apply: %v\n%s", err, said.text.String())
	}
	c.sshOK(t, node, "[ -e /tmp/finished ]")
}
