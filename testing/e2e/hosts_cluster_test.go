package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/machines"
)

// hostsCluster is a cluster on machines that slipway did not make. They are named as the nodes of other clusters are.
type hostsCluster struct {
	*cluster
	fleet *machines.Fleet
	// settings are YAML of single hosts, by node: what is under ssh.
	settings map[string]string
}

// newHostsCluster makes bare machines and a spec, with an agent that has all keys and the password for sudo in a file.
func newHostsCluster(t *testing.T, layout machines.Layout, spec clusterSpec) *hostsCluster {
	t.Helper()
	dir := t.TempDir()
	began := time.Now()
	fleet := machines.New(t, layout)
	t.Logf("the machines answer SSH after %.1fs", time.Since(began).Seconds())
	c := &hostsCluster{
		cluster: &cluster{tool: &tool{state: filepath.Join(dir, "state")}, name: layout.Name, file: filepath.Join(dir, layout.Name+".yaml"), spec: spec},
		fleet:   fleet, settings: map[string]string{},
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(fleet.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"SSH_AUTH_SOCK=" + machines.Agent(t, fleet.Keys...), "SLIPWAY_SUDO_PASSWORD_FILE=" + password}
	c.write(t)
	return c
}

// evictsNever is a kubelet's configuration that ignores how full the disk is: the machines' is the disk of this computer,
// which can be fuller than the 85 % from which on a kubelet accepts no pods.
const evictsNever = `{evictionHard: {memory.available: 100Mi, nodefs.available: 0%, imagefs.available: 0%}}`

// write writes the spec.
func (c *hostsCluster) write(t *testing.T) {
	t.Helper()
	var jumps []string
	for _, b := range c.fleet.Bastions {
		jumps = append(jumps, c.fleet.JumpUser+"@"+b.SSH())
	}
	way := "none"
	if len(jumps) > 0 {
		way = strings.Join(jumps, ", ")
	}
	text := fmt.Sprintf(`apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata:
  name: %s
spec:
  kubernetes:
    version: %s
    kubelet: {configPatch: %s}
  allowCgroupV1: true
  provider:
    hosts:
      sshConfig: none
      ssh:
        user: %s
        knownHostsFiles: [%s]
        jumps: [%s]
%s  nodePools:
`, c.name, kubernetesVersion, evictsNever, c.fleet.User, c.fleet.KnownHosts, way, c.spec.extra)
	for _, pool := range []struct{ name, role string }{{"cp", "control-plane"}, {"worker", "worker"}, {"own", "worker\n    proxyMode: ipvs"}} {
		hosts := ""
		for _, node := range c.nodes() {
			if !strings.HasPrefix(node, c.name+"-"+pool.name+"-") {
				continue
			}
			m := c.fleet.Machine(node)
			hosts += fmt.Sprintf("    - {address: %s, privateAddress: %s, name: %s", m.Address, m.Private, node)
			if settings := c.settings[node]; settings != "" {
				hosts += ", ssh: {" + settings + "}"
			}
			hosts += "}\n"
		}
		if hosts != "" {
			text += fmt.Sprintf("  - name: %s\n    role: %s\n    hosts:\n%s", pool.name, pool.role, hosts)
		}
	}
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// kube is the operator's view, through a tunnel to the first control plane: nothing but SSH leads to the machines.
func (c *hostsCluster) kube(t *testing.T) *kube {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := listener.Addr().String()
	if err := listener.Close(); err != nil { // ssh listens there
		t.Fatal(err)
	}
	first := c.fleet.Machine(c.nodes()[0])
	config := c.fleet.SSHConfig(t, machines.Agent(t, c.fleet.Keys...))
	tunnel := exec.CommandContext(t.Context(), "ssh", "-F", config, "-N", "-o", "ExitOnForwardFailure=yes",
		"-L", fmt.Sprintf("%s:%s:6443", local, first.Private), first.Name)
	tunnel.Stderr = os.Stderr
	if err := tunnel.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tunnel.Process.Kill()
		_ = tunnel.Wait()
	})
	text := c.ok(t, "kubeconfig", "-f", c.file).stdout
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text = regexp.MustCompile(`server: .*`).ReplaceAllString(text, "server: https://"+local)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return newKube(t, file)
}

// bare wants nothing of slipway on a machine.
func (c *hostsCluster) bare(t *testing.T, node string) {
	t.Helper()
	if out := c.fleet.Machine(node).MustRun(t, "ls -d /etc/kubernetes /opt/slipway/* /etc/systemd/system/kubelet.service 2>/dev/null || true"); out != "" {
		t.Errorf("%s is not bare: %s", node, out)
	}
}

// nothingCut wants no half-written file on a machine.
func (c *hostsCluster) nothingCut(t *testing.T, node string) {
	t.Helper()
	if out := c.fleet.Machine(node).MustRun(t, "find /etc /opt /var/lib/slipway* -name '.slipway-new-*' 2>/dev/null || true"); out != "" {
		t.Errorf("%s has half-written files: %s", node, out)
	}
}
