package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/providers/local"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// found is what preflight prints as JSON.
type found struct {
	Checked  []string
	Missing  []string
	Unread   map[string]string
	Findings []struct{ Host, Check, Severity, Found, Remedy string }
}

// preflight checks the machines of a cluster.
func (c *cluster) preflight(t *testing.T) (f found, code int) {
	t.Helper()
	r := c.run(t, nil, "preflight", "-f", c.file, "--output", "json")
	if err := json.Unmarshal([]byte(r.stdout), &f); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	return f, r.code
}

// mustBeFit wants no finding on any machine.
func (c *cluster) mustBeFit(t *testing.T) {
	t.Helper()
	f, code := c.preflight(t)
	if code != 0 || len(f.Findings) > 0 || len(f.Unread) > 0 || len(f.Checked) != len(c.nodes()) {
		t.Fatalf("want no finding on %d machines, exit code 0; got %d: %+v", len(c.nodes()), code, f)
	}
}

// bareMachines makes the machines of a new cluster, and installs nothing on them.
func bareMachines(t *testing.T, name string, of clusterSpec) *cluster {
	t.Helper()
	c := newCluster(t, name, of)
	parsed, err := spec.Load(c.file)
	if err != nil {
		t.Fatal(err)
	}
	id := plan.Identity{Name: name, UID: "0d6c7a0e-5a5d-4f0b-9d83-9f5c7f1f3b11"}
	text, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.state, name)
	store, err := state.Open(t.Context(), state.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), map[string]secret.Bytes{"cluster.json": text}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("SLIPWAY_CACHE_DIR")
	if cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, "slipway")
	}
	provider, err := local.Open(parsed, local.Options{UID: id.UID, StateDir: dir, CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Ensure(t.Context(), c.nodes(), func(machine, what string) { t.Log(machine, what) }); err != nil {
		t.Fatal(err)
	}
	return c
}

// planted are faults on machines: where each is, the script that makes it, the check that must name
// it, and what undoes the rest. {cp}, {w1} and {w2} are the addresses of the machines, {name1} the name
// of the first worker. If shows is set, the remedy only shows what is to be done, and undo does it.
var planted = []struct {
	fault, node, plant, check string
	undo                      string
	shows                     bool
}{
	{
		fault: "a unit listens on the API's port", node: "cp-1", check: "ports-in-use",
		plant: "systemd-run --quiet --unit=web systemd-socket-activate -l 6443 sleep 600; " + listening("6443"),
	},
	{
		fault: "a program started over SSH listens on the kubelet's port", node: "worker-1", check: "ports-in-use",
		plant: "setsid systemd-socket-activate -l 10250 sleep 600 >/dev/null 2>&1 </dev/null & " + listening("10250"),
	},
	{
		fault: "a unit listens on VXLAN's port", node: "worker-2", check: "ports-in-use",
		plant: "systemd-run --quiet --unit=tunnel systemd-socket-activate -d -l 8472 sleep 600; " + listening("8472"),
	},
	{fault: "another machine's ID", node: "worker-2", check: "machine-id", plant: "echo {id1} >/etc/machine-id"},
	{fault: "no machine ID", node: "cp-1", check: "machine-id", plant: ": >/etc/machine-id"},
	{fault: "another machine's host name", node: "worker-2", check: "hostname", plant: "hostname {name1}"},
	{
		fault: "a disk that is too small for etcd", node: "cp-1", check: "disk-space", shows: true,
		plant: "mkdir -p /var/lib/etcd; mount -t tmpfs -o size=10m tmpfs /var/lib/etcd", undo: "umount /var/lib/etcd; rmdir /var/lib/etcd",
	},
	{
		fault: "iptables drops what one machine sends to the kubelet", node: "worker-1", check: "ports-blocked",
		plant: "iptables -A INPUT -p tcp --dport 10250 -s {cp} -j DROP", undo: "iptables -F INPUT",
	},
	{
		fault: "iptables drops the pod network", node: "worker-2", check: "ports-blocked",
		plant: "iptables -A INPUT -p udp --dport 8472 -j DROP", undo: "iptables -F INPUT",
	},
	{
		fault: "iptables drops what one machine sends over the pod network", node: "cp-1", check: "ports-blocked",
		plant: "iptables -A INPUT -p udp --dport 8472 -s {w2} -j DROP", undo: "iptables -F INPUT",
	},
	{
		fault: "iptables rejects connections to the API", node: "cp-1", check: "ports-blocked",
		plant: "iptables -A INPUT -p tcp --dport 6443 -j REJECT", undo: "iptables -F INPUT",
	},
	{
		fault: "nft drops everything that it is not told to accept", node: "worker-1", check: "ports-blocked",
		plant: "nft add table inet own; nft 'add chain inet own in { type filter hook input priority 0; policy drop; }'; " +
			"nft add rule inet own in iif lo accept; nft add rule inet own in ct state established,related accept; " +
			"nft add rule inet own in tcp dport 22 accept; nft add rule inet own in udp dport 8472 accept",
		undo: "nft delete table inet own",
	},
	{fault: "a smaller MTU", node: "worker-2", check: "mtu", plant: "ip link set dev eth0 mtu 1400"},
	{
		fault: "a tool that is not installed", node: "worker-1", check: "tools",
		// There may be no mirror of packages here: this apt-get has the one package that is asked for.
		plant: `mv /usr/sbin/nft /root/nft; cat >/usr/local/sbin/apt-get <<'END'
#!/bin/sh
case "$*" in update) ;; "install -y nftables") mv /root/nft /usr/sbin/nft ;; *) exit 1 ;; esac
END
chmod +x /usr/local/sbin/apt-get`, undo: "rm /usr/local/sbin/apt-get",
	},
	{
		fault: "static pods of kubeadm", node: "cp-1", check: "leftovers",
		plant: "mkdir -p /etc/kubernetes/manifests; touch /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/kubelet.conf",
	},
	{
		fault: "kubeadm itself with what it has made", node: "worker-1", check: "leftovers",
		plant: "mkdir -p /etc/kubernetes; touch /etc/kubernetes/kubelet.conf /usr/bin/kubeadm", undo: "rm /usr/bin/kubeadm",
	},
	{fault: "data of k3s", node: "worker-1", check: "leftovers", plant: "mkdir -p /var/lib/rancher/k3s"},
	{fault: "a plugin's network configuration", node: "worker-2", check: "cni-config", plant: "mkdir -p /etc/cni/net.d; touch /etc/cni/net.d/10-calico.conflist"},
	{
		fault: "a kubelet that runs as a unit", node: "worker-1", check: "other-runtime",
		plant: "cp /bin/sleep /root/kubelet; systemd-run --quiet --unit=kubelet /root/kubelet 600; " + runs("kubelet"),
	},
	{
		fault: "a container runtime that somebody has started", node: "cp-1", check: "other-runtime",
		plant: "cp /bin/sleep /root/dockerd; setsid /root/dockerd 600 >/dev/null 2>&1 </dev/null & " + runs("dockerd"),
	},
	{fault: "chains of another kube-proxy", node: "worker-1", check: "kube-iptables", plant: "iptables -t nat -N KUBE-SERVICES; iptables -t nat -A OUTPUT -j KUBE-SERVICES"},
	{fault: "a table of another kube-proxy", node: "worker-2", check: "kube-iptables", plant: "nft add table ip kube-proxy; nft add table ip6 kube-proxy"},
	{fault: "no /dev/kmsg", node: "worker-1", check: "kmsg", plant: "rm /dev/kmsg"},
	{fault: "mounts that do not propagate", node: "cp-1", check: "mounts", plant: "mount --make-private /"},
	{fault: "programs must not run in /opt", node: "worker-1", check: "mounts", plant: "mount -t tmpfs -o noexec tmpfs /opt", undo: "umount /opt"},
	{fault: "/opt is read-only", node: "worker-2", check: "read-only", plant: "mount -t tmpfs -o ro tmpfs /opt", undo: "umount /opt"},
	{
		fault: "few watchers of files", node: "worker-1", check: "limits",
		// The limit is the kernel's, and counts for this computer too: a file lies over it.
		plant: "echo 64 >/run/few; mount --bind /run/few /proc/sys/fs/inotify/max_user_instances",
		undo:  "umount /proc/sys/fs/inotify/max_user_instances; rm /etc/sysctl.d/91-fs.inotify.max_user_instances.conf",
	},
	{fault: "a unit that has failed", node: "worker-2", check: "systemd-degraded", plant: "systemd-run --quiet --wait --unit=bad false || true"},
}

// listening waits until something listens on a port, and runs until a program with a name runs.
func listening(port string) string {
	return "timeout 10 sh -c 'until ss -Hltun sport = :" + port + " | grep -q .; do sleep 0.1; done'"
}

func runs(name string) string {
	return "timeout 10 sh -c 'until grep -qx " + name + " /proc/[0-9]*/comm; do sleep 0.1; done'"
}

// TestPreflight plants some of the faults, and TestLongPreflight all of them.
func TestPreflight(t *testing.T) {
	c := bareMachines(t, "e2e-preflight", clusterSpec{subnet: "10.89.83.0/24", controlPlanes: 1, workers: 2})
	c.plantFaults(t, 5)
}

// plantFaults plants each nth fault, one after another, on bare machines: preflight names exactly it, on
// its machine, and its remedy, typed there as printed, mends it.
func (c *cluster) plantFaults(t *testing.T, nth int) {
	t.Helper()
	c.mustBeFit(t)
	nodes := c.nodes()
	address := func(node string) string { return strings.TrimSpace(c.sshOK(t, node, "hostname -I | cut -d' ' -f1")) }
	words := strings.NewReplacer("{cp}", address(nodes[0]), "{w1}", address(nodes[1]), "{w2}", address(nodes[2]), "{name1}", nodes[1],
		"{id1}", strings.TrimSpace(c.sshOK(t, nodes[1], "cat /etc/machine-id")))
	for i, p := range planted {
		if i%nth != 0 {
			continue
		}
		t.Run(p.fault, func(t *testing.T) {
			node := c.name + "-" + p.node
			c.sshOK(t, node, words.Replace(p.plant))
			f, code := c.preflight(t)
			if len(f.Findings) != 1 || f.Findings[0].Check != p.check || f.Findings[0].Host != node || len(f.Unread) > 0 {
				t.Fatalf("want %s on %s, and nothing besides; got exit code %d, %+v", p.check, node, code, f)
			}
			if refused := f.Findings[0].Severity == "error"; refused != (code == 1) {
				t.Errorf("exit code %d: %+v", code, f.Findings)
			}
			t.Logf("%s; run there: %s", f.Findings[0].Found, f.Findings[0].Remedy)
			c.sshOK(t, node, f.Findings[0].Remedy)
			if p.shows {
				c.sshOK(t, node, p.undo)
			}
			c.mustBeFit(t)
			if p.undo != "" && !p.shows {
				c.sshOK(t, node, p.undo)
			}
		})
		if t.Failed() {
			return // the next fault would be one of two
		}
	}
	c.mustHaveNoTraces(t)
}

// mustHaveNoTraces wants machines as they were: nothing of preflight runs or lies there.
func (c *cluster) mustHaveNoTraces(t *testing.T) {
	t.Helper()
	for _, node := range c.nodes() {
		left := c.sshOK(t, node, "ls -d /tmp/tmp.* /var/lib/.slipway-preflight* /var/lib/etcd/.slipway* 2>/dev/null; grep -lx systemd-socket- /proc/[0-9]*/comm; true")
		if left = strings.TrimSpace(left); left != "" {
			t.Errorf("%s has left of preflight: %s", node, left)
		}
	}
}

// TestPreflightRefuses: an error holds the machine before anything is changed on it, and --ignore lets
// it through.
func TestPreflightRefuses(t *testing.T) {
	c := bareMachines(t, "e2e-unfit", clusterSpec{subnet: "10.89.84.0/24", controlPlanes: 1, workers: 1})
	node := c.nodes()[0]
	c.sshOK(t, node, "mkdir -p /var/lib/rancher/k3s")
	r := c.applyFails(t, node+": preflight: leftovers: k3s has left /var/lib/rancher/k3s", "mv /var/lib/rancher/k3s /var/lib/rancher/k3s.old", "--ignore leftovers")
	if files := c.sshOK(t, node, "ls -d /opt/slipway /var/lib/slipway /etc/kubernetes 2>/dev/null; true"); files != "" {
		t.Errorf("the machine was changed: %s\n%v", files, r)
	}
	if r = c.run(t, nil, "plan", "-f", c.file); r.code != 1 || !strings.Contains(r.stderr, "--ignore leftovers") {
		t.Errorf("plan names the machine and how to go on: %v", r)
	}
	if r = c.run(t, nil, "plan", "-f", c.file, "--ignore", "leftovers"); r.code != 0 || !strings.Contains(r.stdout, node) {
		t.Errorf("with --ignore the plan is whole: %v", r)
	}
}

// TestLongPreflight: each fault is named, and nothing is found on machines on which nothing is wrong,
// neither before a cluster is installed nor after, however often one looks.
func TestLongPreflight(t *testing.T) {
	long(t)
	c := bareMachines(t, "e2e-fit", clusterSpec{subnet: "10.89.85.0/24", controlPlanes: 1, workers: 2})
	for range 50 {
		c.mustBeFit(t)
	}
	c.plantFaults(t, 1)
	c.apply(t)
	for range 50 {
		c.mustBeFit(t)
	}
	c.mustHaveNoTraces(t)
}

// TestPreflightTable: the faults are many enough, and of many kinds.
func TestPreflightTable(t *testing.T) {
	var checks []string
	for _, p := range planted {
		checks = append(checks, p.check)
	}
	slices.Sort(checks)
	if n := len(slices.Compact(checks)); n < 15 || len(planted) < 25 {
		t.Errorf("%d faults of %d checks", len(planted), n)
	}
}
