package preflight

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/distro"
	"slipway.dev/slipway/provision/spec"
)

// healthy is three machines on which nothing is to be found.
func healthy(t *testing.T) *Situation {
	t.Helper()
	c, err := spec.Parse("test.yaml", []byte(`
apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: t}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {}}
  allowCgroupV1: false
  nodePools:
  - {name: cp, role: control-plane, replicas: 1}
  - {name: worker, role: worker, replicas: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	s := &Situation{Cluster: c, Endpoint: "api.example:6443", Names: []string{"api.example", "10.0.0.1"}}
	for i, name := range []string{"t-cp-1", "t-worker-1", "t-worker-2"} {
		address := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		role := spec.Worker
		if i == 0 {
			role = spec.ControlPlane
		}
		facts, err := ParseFacts(strings.NewReplacer("NAME", name, "ADDRESS", address.String(), "DIGIT", string(rune('1'+i))).Replace(report))
		if err != nil {
			t.Fatal(err)
		}
		facts.Sent = facts.Clock.Add(-time.Millisecond)
		facts.Heard = facts.Clock.Add(time.Millisecond)
		s.Nodes = append(s.Nodes, Node{Name: name, Role: role, ProxyMode: nftables, Address: address, Copies: true, Facts: facts})
	}
	s.Ways = []Way{}
	for i := range s.Nodes {
		for _, target := range s.targets(i) {
			s.Ways = append(s.Ways, Way{From: s.Nodes[i].Name, To: target.to, Protocol: target.port.Protocol, Port: target.port.First, State: Open})
		}
	}
	return s
}

// report is what preflight.sh prints on a usual machine.
const report = `now=1795805193.787384933
os=PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
os=ID=debian
os=VERSION_ID="12"
kernel=6.1.0-30-amd64
machine=x86_64
hostname=NAME
container=none
systemd=252
activate=/usr/bin/systemd-socket-activate
bash=/usr/bin/bash
nft=nftables v1.0.6 (Lester Gooch #5)
cgroup=cgroup2fs
controller=cpuset
controller=cpu
controller=io
controller=memory
controller=pids
memory=4000000
cpus=2
propagation=shared
machineid=d669f0b814b74945af2b0088997df11DIGIT
product=5a1e4d56-0000-4000-8000-00000000000DIGIT
sysctl=fs.inotify.max_user_instances 128
sysctl=fs.inotify.max_user_watches 65536
sysctl=fs.file-max 9223372036854775807
sysctl=kernel.pid_max 4194304
selinux=
disk=/etc /dev/vda1 20000000000 40000000000 / rw 65024
disk=/usr/local/bin /dev/vda1 20000000000 40000000000 / rw 65024
disk=/var/lib /dev/vda1 20000000000 40000000000 / rw 65024
disk=/var/lib/etcd /dev/vda1 20000000000 40000000000 / rw 65024
disk=/var/lib/containerd /dev/vda1 20000000000 40000000000 / rw 65024
disk=/opt /dev/vda1 20000000000 40000000000 / rw 65024
disk=/var/log /dev/vda1 20000000000 40000000000 / rw 65024
sync=0.001
sync=0.002
sync=0.001
sync=0.003
sync=0.002
sync=0.001
address=ADDRESS
address=127.0.0.1
link=eth0 1500 02:42:0a:58:5b:0DIGIT
link=lo 65536 00:00:00:00:00:00
interface=eth0
left=/usr/bin/snap
nameserver=127.0.0.53
upstream=10.0.0.53
[end]
`

// faults are changes of a healthy situation, with the line that has to be found, and none besides.
var faults = []struct {
	check string
	plant func(s *Situation, cp, worker *Facts)
	want  string // "HOST: SEVERITY: FOUND; run there: REMEDY", without the check's name, "*" for any text
}{
	{"os", func(_ *Situation, cp, _ *Facts) {
		cp.OS = distro.Release{ID: "debian", Version: "11", Pretty: "Debian 11"}
	}, "t-cp-1: warning: the distribution is Debian 11, *"},
	{"architecture", func(_ *Situation, _, w *Facts) { w.Machine = "riscv64" }, "t-worker-1: error: the machine is riscv64, *"},
	{"systemd", func(_ *Situation, _, w *Facts) { w.Systemd = 239 }, "t-worker-1: error: systemd is version 239; it has to be 240 or newer"},
	{"systemd", func(_ *Situation, _, w *Facts) { w.Systemd, w.MachineID = 0, "" }, "t-worker-1: error: systemd does not run, *"},
	{
		"systemd-degraded", func(_ *Situation, _, w *Facts) { w.FailedUnits = []string{"a.service", "b.mount"} },
		"t-worker-1: info: systemd is degraded, *; run there: systemctl reset-failed a.service b.mount",
	},
	{"kernel", func(_ *Situation, _, w *Facts) { w.Kernel = "4.18.0-553.el8" }, "t-worker-1: error: the kernel is 4.18.0-553.el8; Kubernetes needs 4.19 or newer"},
	{"kernel", func(_ *Situation, _, w *Facts) { w.Kernel = "5.4.0" }, "t-worker-1: error: the kernel is 5.4.0, and proxyMode nftables needs 5.13 or newer: *"},
	{"kernel-modules", func(_ *Situation, _, w *Facts) { w.MissingModules = []string{"vxlan"} }, "t-worker-1: error: the kernel 6.1.0-30-amd64 lacks vxlan"},
	{
		"kernel-modules", func(_ *Situation, _, w *Facts) {
			w.OS, w.MissingModules = distro.Release{ID: "rocky", Version: "9.4"}, []string{"br_netfilter", "ip_vs"}
		},
		"t-worker-1: error: * lacks br_netfilter, ip_vs, which proxyMode ipvs needs; *; run there: dnf install -y kernel-modules-extra-$(uname -r)",
	},
	{"cgroups", func(_ *Situation, cp, _ *Facts) { cp.CgroupV2 = false }, "t-cp-1: error: the machine uses cgroup v1, *; run there: sed -i * update-grub && reboot"},
	{"cgroups", func(_ *Situation, cp, _ *Facts) { cp.Controllers = []string{"cpu", "cpuset", "pids"} }, "t-cp-1: error: the cgroup controllers memory are off; *"},
	{"cgroups", func(_ *Situation, cp, _ *Facts) { cp.Controllers = []string{"cpu", "memory", "pids"} }, "t-cp-1: warning: the cgroup controller cpuset is off: *"},
	{"swap", func(_ *Situation, cp, _ *Facts) { cp.Swaps = []string{"/swap.img"} }, "t-cp-1: warning: swap is on (/swap.img): *; run there: swapoff -a && systemctl mask swap.target"},
	{
		"swap", func(s *Situation, cp, _ *Facts) {
			s.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch = map[string]any{"failSwapOn": true}
			cp.Swaps = []string{"/swap.img"}
		},
		"t-cp-1: error: swap is on (/swap.img), and the kubelet does not start *",
	},
	{"mounts", func(_ *Situation, cp, _ *Facts) { cp.SharedRoot = false }, "t-cp-1: error: / is not a shared mount, *; run there: mount --make-rshared /"},
	{
		"mounts", func(_ *Situation, _, w *Facts) {
			w.Disks["/opt"] = Disk{Free: 9 << 30, Size: 10 << 30, Target: "/opt", NoExec: true}
		},
		"t-worker-1: error: /opt is mounted noexec (/opt), *; run there: mount -o remount,exec /opt",
	},
	{
		"read-only", func(_ *Situation, _, w *Facts) {
			w.Disks["/usr/local/bin"] = Disk{Free: 9 << 30, Size: 10 << 30, Target: "/usr", ReadOnly: true}
		},
		"t-worker-1: error: /usr is mounted read-only, and slipway writes to /usr/local/bin; run there: mount -o remount,rw /usr",
	},
	{"kmsg", func(_ *Situation, _, w *Facts) { w.NoKmsg = true }, "t-worker-1: error: /dev/kmsg is missing, *; run there: mknod -m 0660 /dev/kmsg c 1 11"},
	{
		"limits", func(_ *Situation, _, w *Facts) { w.Sysctls["fs.inotify.max_user_instances"] = "64" },
		"t-worker-1: warning: fs.inotify.max_user_instances is 64, *; run there: echo 'fs.inotify.max_user_instances = 8192' >/etc/sysctl.d/*",
	},
	{"selinux", func(_ *Situation, _, w *Facts) { w.SELinuxEnforcing = true }, "t-worker-1: warning: SELinux is in enforcing mode, *; run there: setenforce 0 *"},
	{"apparmor", func(_ *Situation, _, w *Facts) { w.NoProfileParser = true }, "t-worker-1: info: AppArmor is on *; run there: apt-get update && apt-get install -y apparmor"},
	{"tools", func(_ *Situation, _, w *Facts) { w.MissingTools = []string{"nft"} }, "t-worker-1: error: nft is not installed; run there: apt-get update && apt-get install -y nftables"},
	{
		"tools", func(_ *Situation, _, w *Facts) {
			w.OS, w.MissingTools = distro.Release{ID: "flatcar"}, []string{"nft", "tar"}
		},
		"t-worker-1: error: nft, tar are not installed",
	},
	{"tools", func(_ *Situation, _, w *Facts) { w.Nft = "0.9.8" }, "t-worker-1: error: nft is version 0.9.8, and proxyMode nftables needs 1.0.1 *"},
	{"cpus", func(_ *Situation, cp, _ *Facts) { cp.CPUs = 1 }, "t-cp-1: error: the machine has 1 CPU, and a control plane needs 2"},
	{"memory", func(_ *Situation, cp, _ *Facts) { cp.MemoryKB = 1600000 }, "t-cp-1: error: the machine has 1600 MB of memory, *"},
	{"memory", func(_ *Situation, _, w *Facts) { w.MemoryKB = 500000 }, "t-worker-1: warning: the machine has 500 MB of memory, *"},
	{
		"disk-space", func(_ *Situation, cp, _ *Facts) {
			cp.Disks["/var/lib/etcd"] = Disk{Free: 1 << 20, Size: 1 << 30, Target: "/mnt", Number: "7"}
		},
		"t-cp-1: error: /var/lib/etcd has only 0.0 GiB free, for etcd's data; there must be 1.0 GiB; run there: du -xhd1 /mnt | sort -h | tail",
	},
	{
		"disk-space", func(_ *Situation, _, w *Facts) {
			w.Disks["/var/log"] = Disk{Free: 500 << 20, Size: 1 << 30, Target: "/var/log", Number: "7"}
		},
		"t-worker-1: warning: /var/log has 0.5 GiB free, for logs; there should be 1.0 GiB; *",
	},
	{
		"disk-latency", func(_ *Situation, cp, _ *Facts) { cp.Syncs = slices.Repeat([]time.Duration{12 * time.Millisecond}, 30) },
		"t-cp-1: warning: of 30 writes to the disk of /var/lib/etcd, the slowest hundredth took 12ms each, *",
	},
	{"clock", func(_ *Situation, _, w *Facts) { w.Clock = w.Clock.Add(-5 * time.Second) }, "t-worker-1: warning: its clock is 5s behind that of t-*; run there: timedatectl set-ntp true"},
	{"clock", func(_ *Situation, cp, _ *Facts) { cp.Clock = cp.Clock.Add(time.Hour) }, "t-cp-1: error: its clock is 1h0m0s ahead of that of t-worker-*"},
	{"machine-id", func(_ *Situation, cp, w *Facts) { w.MachineID = cp.MachineID }, "t-worker-1: error: it has the machine ID of t-cp-1 *; run there: rm -f /etc/machine-id *"},
	{"machine-id", func(_ *Situation, _, w *Facts) { w.MachineID = "" }, "t-worker-1: error: /etc/machine-id is missing or empty; run there: *"},
	{
		"mac-address", func(_ *Situation, cp, w *Facts) { w.Links["eth0"] = cp.Links["eth0"] },
		"t-worker-1: error: its interface eth0 has the MAC address of t-cp-1: 02:42:0a:58:5b:01; run there: ip link set dev eth0 address 02:*",
	},
	{"hostname", func(_ *Situation, cp, w *Facts) { w.Hostname = cp.Hostname }, "t-worker-1: warning: its host name t-cp-1 is also that of t-cp-1; run there: hostnamectl set-hostname t-worker-1"},
	{
		"hostname", func(_ *Situation, cp, w *Facts) { cp.Hostname, w.Hostname = "a", "t-cp-1" },
		"t-worker-1: warning: its host name is the name of another node, t-cp-1; run there: *",
	},
	{"product-uuid", func(_ *Situation, cp, w *Facts) { w.Product = cp.Product }, "t-worker-1: info: its product_uuid is also that of t-cp-1 *"},
	{"address", func(_ *Situation, _, w *Facts) { w.Addresses = []string{"127.0.0.1", "192.0.2.7"} }, "t-worker-1: error: no interface has the node's address 10.0.0.2, *; the machine has 192.0.2.7"},
	{
		"networks", func(_ *Situation, _, w *Facts) { w.Addresses = append(w.Addresses, "10.244.3.1") },
		"t-worker-1: error: its address 10.244.3.1 is in 10.244.0.0/16, the network of pods (spec.network.podSubnet)",
	},
	{"dns", func(_ *Situation, _, w *Facts) { w.Upstreams = nil }, "t-worker-1: warning: its only nameserver is the machine itself (127.0.0.53), *"},
	{"dns", func(_ *Situation, _, w *Facts) { w.Nameservers, w.Upstreams = nil, nil }, "t-worker-1: warning: /etc/resolv.conf names no nameserver, *"},
	{"own-name", func(_ *Situation, _, w *Facts) { w.NoOwnName = true }, "t-worker-1: warning: it cannot resolve its own host name *; run there: echo '127.0.1.1 t-worker-1' >>/etc/hosts"},
	{
		"mtu", func(_ *Situation, _, w *Facts) { w.Links["eth0"] = Link{MTU: 1400, MAC: "x"} },
		"t-worker-1: warning: its interface eth0 has an MTU of 1400, and those of most other nodes 1500; run there: ip link set dev eth0 mtu 1500",
	},
	{
		"mtu", func(s *Situation, _, _ *Facts) { s.set("t-cp-1", "t-worker-1", 8472, Short) },
		"t-worker-1: warning: packets of 1500 bytes, the MTU, do not arrive from t-cp-1, *",
	},
	{
		"ports-in-use", func(_ *Situation, cp, _ *Facts) {
			cp.Listeners = []Listener{{Protocol: TCP, Port: 6443, PID: "7", Unit: "haproxy.service", Command: "haproxy"}}
		},
		"t-cp-1: error: haproxy (process 7, haproxy.service) listens on port 6443/tcp, *; run there: systemctl disable haproxy.service; systemctl stop haproxy.service",
	},
	{
		"ports-in-use", func(_ *Situation, _, w *Facts) {
			w.Listeners = []Listener{{Protocol: TCP, Port: 2379, PID: "7"}, {Protocol: UDP, Port: 10250, PID: "7"}, {Protocol: UDP, Port: 8472}}
		},
		"t-worker-1: error: the kernel (a VXLAN interface *) listens on port 8472/udp, *",
	},
	{
		"ports-blocked", func(s *Situation, _, _ *Facts) { s.set("t-cp-1", "t-worker-1", 10250, Silent) },
		"t-worker-1: error: t-cp-1 cannot reach its port 10250/tcp (*): no answer; run there: iptables -I INPUT -p tcp -s 10.0.0.1 --dport 10250 -j ACCEPT",
	},
	{
		"ports-blocked", func(s *Situation, _, w *Facts) {
			w.Firewalls = []string{"firewalld"}
			s.set("t-cp-1", "t-worker-1", 8472, Silent)
			s.set("t-worker-2", "t-worker-1", 8472, Silent)
		},
		"t-worker-1: error: t-cp-1, t-worker-2 cannot reach its port 8472/udp (*): nothing arrives; run there: firewall-cmd --permanent --add-port=8472/udp && *",
	},
	{
		"ports-blocked", func(s *Situation, _, w *Facts) {
			w.Firewalls = []string{"ufw"}
			s.set("t-cp-1", "t-worker-1", 10250, Closed)
		},
		"t-worker-1: error: t-cp-1 cannot reach its port 10250/tcp (*): refused; run there: ufw allow 10250/tcp",
	},
	{
		"ports-blocked", func(s *Situation, cp, _ *Facts) {
			s.set("t-worker-1", "t-cp-1", 6443, Silent)
			s.set("t-worker-2", "t-cp-1", 6443, Silent)
		},
		"t-cp-1: error: t-worker-1, t-worker-2 cannot reach its port 6443/tcp (*): no answer; run there: iptables -I INPUT -p tcp --dport 6443 -j ACCEPT",
	},
	{
		"ports-blocked", func(s *Situation, _, w *Facts) {
			w.InputChains = []string{"inet filter input", "ip filter INPUT"}
			s.set("t-cp-1", "t-worker-1", 10250, Silent)
		},
		"t-worker-1: error: *; run there: nft 'insert rule inet filter input ip saddr { 10.0.0.1 } tcp dport 10250 accept' && iptables -I INPUT -p tcp -s 10.0.0.1 --dport 10250 -j ACCEPT",
	},
	{
		"ports-blocked", func(s *Situation, _, _ *Facts) {
			for i, w := range s.Ways {
				if w.From == "t-worker-1" {
					s.Ways[i].State = Silent
				}
			}
		},
		"t-worker-1: error: it reaches no port of any other node, though others do: what it sends is dropped (iptables -S OUTPUT *",
	},
	{"ports-blocked", func(_ *Situation, _, w *Facts) { w.Bash = false }, "t-worker-1: info: not checked from this host: it has no bash, *"},
	{"ports-blocked", func(_ *Situation, _, w *Facts) { w.SocketActivate = false }, "t-worker-1: info: not checked towards this host: *"},
	{
		"firewall", func(s *Situation, _, w *Facts) { s.Ways, w.Firewalls = nil, []string{"firewalld"} },
		"t-worker-1: warning: firewalld is active, and the other nodes have to reach its ports 10250/tcp, 8472/udp; run there: for p in 10250/tcp 8472/udp; do firewall-cmd *",
	},
	{"endpoint", func(s *Situation, _, _ *Facts) { s.Names = []string{"10.0.0.1"} }, "t-cp-1: error: clients reach the API at api.example:6443, *: add api.example to spec.controlPlane.certSANs"},
	{
		"leftovers", func(_ *Situation, _, w *Facts) { w.Leftovers = []string{"/var/lib/rancher/k3s"} },
		"t-worker-1: error: k3s has left /var/lib/rancher/k3s: if the machine is another cluster's, *; run there: mv /var/lib/rancher/k3s /var/lib/rancher/k3s.old",
	},
	{
		"leftovers", func(_ *Situation, _, w *Facts) {
			w.Leftovers = []string{"/usr/bin/kubeadm", "/etc/kubernetes/manifests/etcd.yaml"}
		},
		"t-worker-1: error: kubeadm has left /etc/kubernetes/manifests/etcd.yaml: *; run there: mv /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/etcd.yaml.old",
	},
	{
		"cni-config", func(_ *Situation, _, w *Facts) {
			w.Leftovers = []string{"/etc/cni/net.d/10-a.conf", "/etc/cni/net.d/20-b.conflist"}
		},
		"t-worker-1: error: there is the network configuration *; run there: for f in /etc/cni/net.d/10-a.conf /etc/cni/net.d/20-b.conflist; do mv \"$f\" \"$f.old\"; done",
	},
	{
		"other-runtime", func(_ *Situation, _, w *Facts) {
			w.Processes = []Process{{PID: "9", Command: "dockerd", Unit: "session-3.scope"}}
		},
		"t-worker-1: error: dockerd runs that slipway has not started (process 9, session-3.scope); run there: kill 9",
	},
	{
		"other-runtime", func(_ *Situation, _, w *Facts) {
			w.Processes = []Process{{PID: "9", Command: "dockerd", Unit: "ssh.service"}}
		},
		"t-worker-1: error: dockerd *; run there: kill 9", // not sshd
	},
	{
		"kube-iptables", func(_ *Situation, _, w *Facts) {
			w.Chains = []string{"iptables-save KUBE-SERVICES", "iptables-save KUBE-MARK", "iptables-legacy-save KUBE-SERVICES", "iptables-legacy-save KUBE-MARK"}
		},
		"t-worker-1: warning: another kube-proxy or kubelet has left 2 chains KUBE-* (iptables-save); run there: iptables-save | grep -v KUBE- | iptables-restore",
	},
	{"kube-iptables", func(_ *Situation, _, w *Facts) { w.Chains = []string{"nft kube-proxy"} }, "t-worker-1: warning: another kube-proxy has left the table *; run there: nft delete table *"},
}

func (s *Situation) set(from, to string, port int, state WayState) {
	for i, w := range s.Ways {
		if w.From == from && w.To == to && w.Port == port {
			s.Ways[i].State = state
		}
	}
}

func TestHealthyMachines(t *testing.T) {
	s := healthy(t)
	if len(s.Ways) < 10 {
		t.Fatalf("only %d ways are tried: %v", len(s.Ways), s.Ways)
	}
	for _, f := range Evaluate(s, nil) {
		t.Errorf("found on a healthy machine: %v", f)
	}
}

// TestChecks plants one fault after another: it is found, and nothing besides.
func TestChecks(t *testing.T) {
	proven := map[string]bool{}
	for _, c := range faults {
		proven[c.check] = true
		s := healthy(t)
		c.plant(s, &s.Nodes[0].Facts, &s.Nodes[1].Facts)
		findings := Evaluate(s, nil)
		if len(findings) != 1 {
			t.Errorf("%s: want one finding like %q, got %v", c.check, c.want, findings)
			continue
		}
		line := strings.Replace(findings[0].String(), string(findings[0].Severity)+": "+c.check+": ", string(findings[0].Severity)+": ", 1)
		if findings[0].Check != c.check || !matches(line, c.want) {
			t.Errorf("%s: got %q, want %q", c.check, findings[0], c.want)
		}
		if left := Evaluate(s, []string{c.check}); len(left) != 0 {
			t.Errorf("%s: ignored, it leaves %v", c.check, left)
		}
	}
	for _, c := range Checks {
		if !proven[c.Name] {
			t.Errorf("no fault proves the check %s", c.Name)
		}
	}
}

// matches compares with a pattern in which "*" is any text.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for i, p := range parts[1:] {
		at := strings.Index(text, p)
		if at < 0 {
			return false
		}
		if i == len(parts)-2 && p != "" && !strings.HasSuffix(text, p) {
			return false
		}
		text = text[at+len(p):]
	}
	return len(parts) > 1 || text == ""
}

func TestMembersAreNotRefused(t *testing.T) {
	s := healthy(t)
	s.Nodes[1].Facts.Owned = []string{"/etc/systemd/system/kubelet.service"}
	s.Nodes[1].Facts.Machine = "riscv64"
	s.Nodes[1].Facts.Leftovers = []string{"/etc/kubernetes/admin.conf"}
	s.Nodes[1].Facts.Listeners = []Listener{{Protocol: TCP, Port: 10250, PID: "7", Unit: "kubelet.service", Command: "kubelet"}}
	got := Evaluate(s, nil)
	if len(got) != 1 || got[0].Check != "architecture" || got[0].Severity != Warning {
		t.Errorf("want only a warning about the architecture: files and ports of a node are its own: %v", got)
	}
	if held := Refused(got); len(held) != 0 {
		t.Errorf("a node is refused: %v", held)
	}
}

func TestMachinesThatShareAComputer(t *testing.T) {
	s := healthy(t)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.SharedDisk = true
		n.Facts.Swaps, n.Facts.CPUs, n.Facts.MemoryKB, n.Facts.Product = []string{"/swap"}, 1, 1, "one"
		n.Facts.Nameservers, n.Facts.Upstreams = []string{"127.0.0.11"}, nil
		for dir, d := range n.Facts.Disks {
			d.Free = 1
			n.Facts.Disks[dir] = d
		}
	}
	if got := Evaluate(s, nil); len(got) != 0 {
		t.Errorf("what the computer has is not the machine's affair: %v", got)
	}
	s.Nodes[0].Facts.Disks["/var/lib/etcd"] = Disk{Free: 1, Target: "/var/lib/etcd", Number: "9"}
	if got := Evaluate(s, nil); len(got) != 1 || got[0].Check != "disk-space" {
		t.Errorf("want the disk that only this machine has: %v", got)
	}
}

func TestRefused(t *testing.T) {
	s := healthy(t)
	s.Nodes[1].Facts.NoKmsg, s.Nodes[2].Facts.NoOwnName = true, true
	held := Refused(Evaluate(s, nil))
	want := "preflight: kmsg: /dev/kmsg is missing, and the kubelet does not start without it; run there: mknod -m 0660 /dev/kmsg c 1 11 (or --ignore kmsg)"
	if len(held) != 1 || len(held["t-worker-1"]) != 1 || held["t-worker-1"][0] != want {
		t.Errorf("got %q, want only %q", held, want)
	}
}

func TestCheckNames(t *testing.T) {
	if err := CheckNames([]string{"swap", "clock"}); err != nil {
		t.Error(err)
	}
	err := CheckNames([]string{"swap", "swpa"})
	if err == nil || !strings.Contains(err.Error(), `"swpa": did you mean swap?`) || !strings.Contains(err.Error(), "ports-blocked") {
		t.Errorf("want an error that names swpa and swap, and lists the checks: %v", err)
	}
}

func TestToolsHavePackages(t *testing.T) {
	for _, mode := range []string{"iptables", nftables, ipvs} {
		for _, tool := range tools(mode) {
			if !slices.Contains(distro.Tools, tool) {
				t.Errorf("%s: package distro does not know the tool %s", mode, tool)
			}
		}
	}
}

// TestRemediesQuote: what a host reports cannot become a command.
func TestRemediesQuote(t *testing.T) {
	s := healthy(t)
	s.Nodes[1].Facts.Leftovers = []string{"/etc/cni/net.d/$(reboot).conf"}
	s.Nodes[1].Facts.Processes = []Process{{PID: "1", Command: "etcd", Unit: `a';reboot;'.service`}}
	s.Nodes[1].Facts.Chains = []string{"$(reboot)-save KUBE-SERVICES"}
	for _, f := range Evaluate(s, nil) {
		want := map[string]string{
			"cni-config":    `mv '/etc/cni/net.d/$(reboot).conf' '/etc/cni/net.d/$(reboot).conf.old'`,
			"other-runtime": `systemctl disable 'a'\'';reboot;'\''.service'; systemctl stop 'a'\'';reboot;'\''.service'`,
		}[f.Check]
		if f.Remedy != want {
			t.Errorf("%s: got %s, want %s", f.Check, f.Remedy, want)
		}
	}
}
