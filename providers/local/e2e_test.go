package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/spec"
)

// e2e opens a cluster of its own on the real Docker, and proves at the end that nothing of it is left.
// SLIPWAY_E2E asks for it, SLIPWAY_CACHE_DIR saves making the image.
func e2e(t *testing.T, name string, controlPlanes, workers int) (*Local, Options) {
	t.Helper()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("needs Docker; set SLIPWAY_E2E=1")
	}
	o := Options{UID: "6f0b5b0e-8d4b-4c9e-9d0a-2f4f6d6f1c11", StateDir: filepath.Join(t.TempDir(), name), CacheDir: os.Getenv("SLIPWAY_CACHE_DIR")}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		o.CacheDir = filepath.Join(dir, "slipway")
	}
	p, err := Open(testCluster(name, controlPlanes, workers), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Destroy(context.Background(), nil); err != nil {
			t.Errorf("destroy: %v", err)
		}
		if left := remains(t, p); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return p, o
}

func testCluster(name string, controlPlanes, workers int) *spec.Cluster {
	return &spec.Cluster{
		Metadata: spec.Metadata{Name: name},
		Spec: spec.ClusterSpec{
			Provider: spec.Provider{Local: &spec.LocalProvider{Subnet: "10.88.77.0/24"}},
			NodePools: []spec.NodePool{
				{Name: "cp", Role: spec.ControlPlane, Replicas: controlPlanes},
				{Name: "worker", Role: spec.Worker, Replicas: workers},
			},
		},
	}
}

// every is all machines of the spec.
func every(p *Local) []string {
	var names []string
	for _, n := range p.nodes {
		names = append(names, n.Name)
	}
	return names
}

// remains lists every Docker object that carries the cluster's label, sorted.
func remains(t *testing.T, p *Local) []string {
	t.Helper()
	ctx := context.Background()
	label := client.Filters{}.Add("label", labelCluster+"="+p.cluster)
	containers, err1 := p.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: label})
	networks, err2 := p.docker.NetworkList(ctx, client.NetworkListOptions{Filters: label})
	volumes, err3 := p.docker.VolumeList(ctx, client.VolumeListOptions{Filters: label})
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, c := range containers.Items {
		left = append(left, c.Names...)
	}
	for _, n := range networks.Items {
		left = append(left, n.Name)
	}
	for _, v := range volumes.Items {
		left = append(left, v.Name)
	}
	slices.Sort(left) // Docker lists volumes in any order
	return left
}

// run executes a command over SSH, accepting no host key but the pinned one.
func run(t *testing.T, m spec.Machine, command string) string {
	t.Helper()
	signer, err := ssh.ParsePrivateKey(m.SSH.Identities[0].Private.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.SSH.HostKeys) != 1 {
		t.Fatalf("%s: %d pinned host keys", m.Name, len(m.SSH.HostKeys))
	}
	pinned, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.SSH.HostKeys[0]))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", m.SSH.Address, &ssh.ClientConfig{
		User: m.SSH.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(pinned), Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	defer func() { _ = c.Close() }()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, err := s.Output(command)
	if err != nil {
		t.Fatalf("%s: %s: %v: %s%s", m.Name, command, err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// want checks what a command prints on a machine.
func want(t *testing.T, m spec.Machine, command, printed string) {
	t.Helper()
	if got := run(t, m, command); got != printed {
		t.Errorf("%s: %s: got %q, want %q", m.Name, command, got, printed)
	}
}

func TestMachines(t *testing.T) {
	p, o := e2e(t, "slwlocal", 1, 1)
	ctx := t.Context()
	var events []string
	report := func(name, what string) { events = append(events, name+": "+what) }

	began := time.Now()
	infra, err := p.Ensure(ctx, every(p), report)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("2 machines answer SSH after %.2f s", time.Since(began).Seconds())
	if got := names(infra.Machines); !slices.Equal(got, []string{"slwlocal-cp-1", "slwlocal-worker-1"}) {
		t.Fatalf("machines %v", got)
	}
	for i, m := range infra.Machines {
		want(t, m, "systemctl is-system-running --wait", "running")
		want(t, m, "hostname", m.Name)
		want(t, m, "hostname -I", fmt.Sprintf("10.88.77.%d", 11+i))
		want(t, m, "test -c /dev/kmsg && test -w /sys/fs/cgroup && findmnt -no PROPAGATION / | cut -d, -f1", "shared")
		want(t, m, "findmnt -no FSTYPE /run", "tmpfs")
		want(t, m, "stat -c '%a %U' /etc/ssh/ssh_host_ed25519_key", "600 root")
		want(t, m, "touch "+Bundles+"/x 2>/dev/null || echo read-only", "read-only")
		if fs := run(t, m, "stat -f -c %T /var"); strings.Contains(fs, "overlay") {
			t.Errorf("%s: /var is on %s", m.Name, fs)
		}
		want(t, m, "getent hosts "+infra.Machines[1-i].Name+" | cut -d' ' -f1", infra.Machines[1-i].Address.String())
	}
	if a, b := run(t, infra.Machines[0], "cat /etc/machine-id"), run(t, infra.Machines[1], "cat /etc/machine-id"); a == b {
		t.Errorf("both machines have the id %q", a)
	}

	// A second Ensure makes nothing anew and reports no more than that all is well.
	events = nil
	again, err := p.Ensure(ctx, every(p), report)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range again.Machines {
		if m.SSH.Address != infra.Machines[i].SSH.Address || m.SSH.HostKeys[0] != infra.Machines[i].SSH.HostKeys[0] {
			t.Errorf("%s changed by a second Ensure", m.Name)
		}
	}
	if s := strings.Join(events, "\n"); strings.Contains(s, "creating") || strings.Contains(s, "starting") {
		t.Errorf("a second Ensure did: %s", s)
	}

	powerCycle(t, p, infra.Machines[1])
	lostState(t, p, o)
}

// powerCycle stops a machine and lets Ensure start it.
func powerCycle(t *testing.T, p *Local, m spec.Machine) {
	t.Helper()
	run(t, m, "echo kept > /var/lib/slipway-test; echo kept > /etc/slipway-test; echo gone > /run/slipway-test; "+
		"echo logged before | systemd-cat -t slipway-test; sync")
	if _, err := p.docker.ContainerStop(t.Context(), m.Name, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	infra, err := p.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := infra.States[m.Name]; !strings.HasPrefix(s, "exited") {
		t.Errorf("state of a stopped machine: %q", s)
	}
	if infra, err = p.Ensure(t.Context(), every(p), nil); err != nil {
		t.Fatal(err)
	}
	if s := infra.States[m.Name]; s != spec.MachineRunning {
		t.Errorf("state of a machine that was started again: %q", s)
	}
	// The same port, address and host key as before: run accepts no other.
	want(t, m, "cat /var/lib/slipway-test /etc/slipway-test; ls /run/slipway-test 2>/dev/null || echo gone", "kept\nkept\ngone")
	want(t, m, "hostname -I", m.Address.String())
	want(t, m, "systemctl is-system-running --wait", "running")
	want(t, m, "journalctl --no-pager -o cat -t slipway-test", "logged before")
}

// lostState proves that what is another's, though of the same name, is neither entered, nor joined, nor removed: with
// another UID, and for machines of before there were UIDs with other keys.
func lostState(t *testing.T, p *Local, o Options) {
	t.Helper()
	before := remains(t, p)
	for _, uid := range []string{"0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22", ""} {
		o.StateDir, o.UID = t.TempDir(), uid
		other, err := Open(testCluster(p.cluster, 1, 1), o)
		if err != nil {
			t.Fatal(err)
		}
		infra, err := other.Find(t.Context())
		if err != nil || len(infra.Machines)+len(infra.Surplus)+len(infra.Disks) > 0 {
			t.Fatalf("UID %q: found %+v, %v", uid, infra, err)
		}
		kinds := map[string]int{}
		for _, f := range infra.Foreign {
			kinds[f.Kind]++
			if f.UID != p.o.UID || !strings.HasSuffix(f.Remove, " "+f.Name) {
				t.Errorf("foreign %+v", f)
			}
		}
		if kinds["machine"] != 2 || kinds["disk"] != 2 || kinds["network"] != 1 {
			t.Errorf("UID %q: foreign %v", uid, infra.Foreign)
		}
		if _, err := other.Ensure(t.Context(), every(other), nil); err == nil || !strings.Contains(err.Error(), "belongs to another") {
			t.Errorf("UID %q: Ensure: %v", uid, err)
		}
		if err := other.Destroy(t.Context(), nil); err != nil {
			t.Errorf("UID %q: Destroy: %v", uid, err)
		}
	}
	if after := remains(t, p); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// An Ensure that is interrupted anywhere leaves what the next one completes.
func TestInterrupted(t *testing.T) {
	p, _ := e2e(t, "slwint", 1, 1)
	for _, after := range []string{"creating", "answers SSH"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := p.Ensure(ctx, every(p), func(_, what string) {
			if what == after {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Ensure interrupted after %q: %v", after, err)
		}
	}
	infra, err := p.Ensure(t.Context(), every(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range infra.Machines {
		want(t, m, "systemctl is-system-running --wait", "running")
	}
}

// A machine that was removed by hand, whatever removed it, gets its disk and its address back; nothing is removed for it.
func TestDisksStay(t *testing.T) {
	p, _ := e2e(t, "slwdisk", 1, 1)
	infra, err := p.Ensure(t.Context(), every(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range infra.Machines {
		run(t, m, "echo "+m.Name+" > /var/lib/kept; sync")
	}
	before := infra.Machines
	for _, m := range before { // -v removes the volumes that have no name of their own
		if _, err := p.docker.ContainerRemove(t.Context(), m.Name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Fatal(err)
		}
	}
	if infra, err = p.Find(t.Context()); err != nil || len(infra.Machines) > 0 || len(infra.Disks) != 2 {
		t.Fatalf("without machines: %+v, %v", infra, err)
	}
	if infra, err = p.Ensure(t.Context(), []string{"slwdisk-worker-1"}, nil); err != nil || len(infra.Machines) != 1 {
		t.Fatalf("one machine was wanted: %+v, %v", infra, err)
	}
	if infra, err = p.Ensure(t.Context(), every(p), nil); err != nil {
		t.Fatal(err)
	}
	for i, m := range infra.Machines {
		want(t, m, "cat /var/lib/kept", m.Name)
		want(t, m, "hostname -I", before[i].Address.String())
	}
	if left := remains(t, p); len(left) != 5 {
		t.Errorf("2 machines, 2 disks and a network are %v", left)
	}
}

// A daemon that refuses --privileged and cannot be seen is asked for what this process may have. Where it does not
// refuse, machines are simply privileged.
func TestHiddenDaemon(t *testing.T) {
	p, _ := e2e(t, "slwcap", 1, 0)
	p.proc = t.TempDir()
	infra, err := p.Ensure(t.Context(), every(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, infra.Machines[0], "systemctl is-system-running --wait", "running")
	res, err := p.docker.ContainerInspect(t.Context(), "slwcap-cp-1", client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := res.Container.HostConfig
	t.Logf("privileged %v, capabilities added %d", h.Privileged, len(h.CapAdd))
	if h.Privileged == (len(h.CapAdd) > 0) {
		t.Error("either privileged or with capabilities added")
	}
}

func names(machines []spec.Machine) []string {
	var out []string
	for _, m := range machines {
		out = append(out, m.Name)
	}
	return out
}
