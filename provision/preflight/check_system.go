package preflight

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/distro"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

func checkOS(n *Node, _ *Situation) []Finding {
	if _, known := distro.Find(n.Facts.OS); known {
		return nil
	}
	name := cmp.Or(n.Facts.OS.Pretty, strings.TrimSpace(n.Facts.OS.ID+" "+n.Facts.OS.Version), "unknown")
	return found("", "the distribution is %s, which slipway does not know; it knows %s", name, distro.Supported())
}

func checkArchitecture(n *Node, _ *Situation) []Finding {
	m := n.Facts.Machine
	if _, known := stack.ArchitectureOf(m); !known && m != "" {
		return found("", "the machine is %s, and slipway has programs for x86_64 (amd64) and aarch64 (arm64)", m)
	}
	return nil
}

// minSystemd is older than that of any distribution in package distro.
const minSystemd = 240

func checkSystemd(n *Node, _ *Situation) []Finding {
	switch v := n.Facts.Systemd; {
	case v == 0:
		return found("", "systemd does not run, and the components are its units")
	case v < minSystemd:
		return found("", "systemd is version %d; it has to be %d or newer", v, minSystemd)
	}
	return nil
}

func checkDegraded(n *Node, _ *Situation) []Finding {
	if failed := n.Facts.FailedUnits; len(failed) > 0 {
		var words []string
		for _, u := range failed {
			words = append(words, word(u))
		}
		units := strings.Join(words, " ")
		return found("systemctl reset-failed "+units, "systemd is degraded, failed are: %s (`systemctl status %s` says why)", units, units)
	}
	return nil
}

// Kernels: k8s.io/kubernetes, pkg/util/kernel/constants.go, and "Linux Kernel Version Requirements" of
// its documentation.
var (
	minKernel         = version{4, 19}
	minKernelNFTables = version{5, 13}
	minNft            = version{1, 0, 1}
)

// version compares as its numbers.
type version []int

func (v version) String() string {
	var parts []string
	for _, n := range v {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ".")
}

// parseVersion parses the numbers at the beginning of "6.1.0-18-amd64"; nil for none.
func parseVersion(text string) version {
	var v version
	for part := range strings.SplitSeq(text, ".") {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		v = append(v, n)
		if digits != part {
			break
		}
	}
	return v
}

func (v version) older(than version) bool { return v != nil && slices.Compare(v, than) < 0 }

const nftables, ipvs = "nftables", "ipvs" // modes of kube-proxy

func checkKernel(n *Node, _ *Situation) []Finding {
	v := parseVersion(n.Facts.Kernel)
	switch {
	case v.older(minKernel):
		return found("", "the kernel is %s; Kubernetes needs %v or newer", n.Facts.Kernel, minKernel)
	case n.ProxyMode == nftables && v.older(minKernelNFTables):
		return found("", "the kernel is %s, and proxyMode nftables needs %v or newer: set proxyMode: iptables for its pool", n.Facts.Kernel, minKernelNFTables)
	}
	return nil
}

// modules are the kernel modules that a node needs.
func modules(c *spec.Cluster, proxyMode string) []string {
	all := []string{"overlay", "br_netfilter"}
	if vxlan(c) {
		all = append(all, "vxlan")
	}
	switch proxyMode {
	case nftables:
		all = append(all, "nf_tables")
	case ipvs:
		all = append(all, "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh")
	}
	return all
}

func checkModules(n *Node, _ *Situation) []Finding {
	missing := n.Facts.MissingModules
	if len(missing) == 0 {
		return nil
	}
	d, _ := distro.Find(n.Facts.OS)
	remedy := ""
	if d.Modules != "" {
		remedy = d.Install + " " + d.Modules
	}
	what := "the kernel " + n.Facts.Kernel + " lacks " + strings.Join(missing, ", ")
	if slices.ContainsFunc(missing, func(m string) bool { return strings.HasPrefix(m, "ip_vs") }) {
		what += ", which proxyMode ipvs needs; other pools may have another proxyMode"
	}
	return found(remedy, "%s", what)
}

func checkCgroups(n *Node, s *Situation) []Finding {
	if !n.Facts.CgroupV2 && (s.Cluster.Spec.AllowCgroupV1 == nil || !*s.Cluster.Spec.AllowCgroupV1) {
		return found(grubCommand(n.Facts.OS, "systemd.unified_cgroup_hierarchy=1"),
			"the machine uses cgroup v1, which Kubernetes has deprecated (KEP-4569), and spec.allowCgroupV1 is not true")
	}
	var missing []string
	for _, c := range []string{"cpu", "cpuset", "memory", "pids"} {
		if len(n.Facts.Controllers) > 0 && !slices.Contains(n.Facts.Controllers, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	f := found("", "the cgroup controllers %s are off; look for cgroup_disable in /proc/cmdline", strings.Join(missing, ", "))
	if slices.Equal(missing, []string{"cpuset"}) {
		f[0].Severity, f[0].Found = Warning, "the cgroup controller cpuset is off: containers cannot be bound to processors (cpuManagerPolicy: static)"
	}
	return f
}

// grubCommand adds an argument of the kernel, and reboots.
func grubCommand(r distro.Release, argument string) string {
	switch d, _ := distro.Find(r); d.ID {
	case "debian", "ubuntu":
		return fmt.Sprintf(`sed -i 's/^GRUB_CMDLINE_LINUX="/&%s /' /etc/default/grub && update-grub && reboot`, argument)
	case "rhel", "amzn":
		return "grubby --update-kernel=ALL --args=" + argument + " && reboot"
	}
	return ""
}

func checkSwap(n *Node, s *Situation) []Finding {
	if len(n.Facts.Swaps) == 0 {
		return nil
	}
	f := found("swapoff -a && systemctl mask swap.target", "swap is on (%s): etcd and the components become slow when memory is short",
		strings.Join(n.Facts.Swaps, ", "))
	if fail, _ := s.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch["failSwapOn"].(bool); fail {
		f[0].Severity, f[0].Found = Error, "swap is on ("+strings.Join(n.Facts.Swaps, ", ")+"), and the kubelet does not start with failSwapOn: true"
	}
	return f
}

// dirs are the directories that matter: of which file system, on which role, how much has to be free,
// and how much should be.
var dirs = []struct {
	path       string
	on         spec.Role // empty for all
	min, want  int64     // bytes; 0 is not checked
	what       string
	executable bool
	copied     bool // the bundle is copied there
}{
	{path: "/etc"},
	{path: "/usr/local/bin"},
	{path: "/var/lib"},
	{path: "/var/lib/etcd", on: spec.ControlPlane, min: 1 << 30, want: 4 << 30, what: "etcd's data"},
	{path: "/var/lib/containerd", min: 2 << 30, want: 8 << 30, what: "containers and images"},
	{path: "/opt", min: 2 << 30, want: 2 << 30, what: "programs", executable: true, copied: true},
	{path: "/var/log", min: 256 << 20, want: 1 << 30, what: "logs"},
}

func checkSpace(n *Node, _ *Situation) []Finding {
	var all []Finding
	shared := n.Facts.Disks["/var/lib"].Number
	root := n.Facts.Disks["/etc"].Number
	seen := map[string]bool{} // file systems of which something was found
	for _, d := range dirs {
		disk, ok := n.Facts.Disks[d.path]
		switch {
		case !ok || d.want == 0 || d.on != "" && d.on != n.Role || d.copied && !n.Copies || seen[disk.Number]:
			continue
		case n.SharedDisk && (disk.Number == shared || disk.Number == root):
			continue // others fill it, too
		}
		f := Finding{
			Found:  fmt.Sprintf("%s has %s free, for %s; there should be %s", d.path, gib(disk.Free), d.what, gib(d.want)),
			Remedy: "du -xhd1 " + word(disk.Target) + " | sort -h | tail",
		}
		switch {
		case disk.Free < d.min:
			f.Found = fmt.Sprintf("%s has only %s free, for %s; there must be %s", d.path, gib(disk.Free), d.what, gib(d.min))
		case disk.Free < d.want:
			f.Severity = Warning
		default:
			continue
		}
		seen[disk.Number] = true
		all = append(all, f)
	}
	return all
}

func gib(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

func checkMounts(n *Node, _ *Situation) []Finding {
	var all []Finding
	if !n.Facts.SharedRoot {
		all = append(all, found("mount --make-rshared /", "/ is not a shared mount, so volumes that pods mount do not reach others")...)
	}
	for _, d := range dirs {
		if disk := n.Facts.Disks[d.path]; d.executable && disk.NoExec {
			all = append(all, found("mount -o remount,exec "+word(disk.Target), "%s is mounted noexec (%s), and programs are there", d.path, disk.Target)...)
		}
	}
	return all
}

func checkReadOnly(n *Node, _ *Situation) []Finding {
	mounts := map[string][]string{} // directories by mount
	for _, d := range dirs {
		if disk := n.Facts.Disks[d.path]; disk.ReadOnly {
			mounts[disk.Target] = append(mounts[disk.Target], d.path)
		}
	}
	var all []Finding
	for _, mount := range slices.Sorted(maps.Keys(mounts)) {
		all = append(all, found("mount -o remount,rw "+word(mount), "%s is mounted read-only, and slipway writes to %s", mount, strings.Join(mounts[mount], ", "))...)
	}
	return all
}

func checkKmsg(n *Node, _ *Situation) []Finding {
	if n.Facts.NoKmsg {
		return found("mknod -m 0660 /dev/kmsg c 1 11", "/dev/kmsg is missing, and the kubelet does not start without it")
	}
	return nil
}

// limits are kernel parameters: the least of a usual machine, and what a node should have.
var limits = []struct {
	key       string
	min, good int64
	what      string
}{
	{"fs.inotify.max_user_instances", 128, 8192, "watchers of files in pods and components"},
	{"fs.inotify.max_user_watches", 8192, 524288, "files that are watched"},
	{"fs.file-max", 100000, 1048576, "open files"},
	{"kernel.pid_max", 32768, 4194304, "processes"},
}

func checkLimits(n *Node, _ *Situation) []Finding {
	var all []Finding
	for _, l := range limits {
		have, err := strconv.ParseInt(n.Facts.Sysctls[l.key], 10, 64)
		if err != nil || have >= l.min {
			continue
		}
		file := "/etc/sysctl.d/91-" + l.key + ".conf"
		all = append(all, found(fmt.Sprintf("echo '%s = %d' >%s && /usr/lib/systemd/systemd-sysctl %s", l.key, l.good, file, file),
			"%s is %d, too few for %s", l.key, have, l.what)...)
	}
	return all
}

func checkSELinux(n *Node, _ *Situation) []Finding {
	if n.Facts.SELinuxEnforcing {
		return found("setenforce 0 && sed -i 's/^SELINUX=enforcing/SELINUX=permissive/' /etc/selinux/config",
			"SELinux is in enforcing mode, in which slipway is not tried")
	}
	return nil
}

func checkAppArmor(n *Node, _ *Situation) []Finding {
	if !n.Facts.NoProfileParser {
		return nil
	}
	remedy := ""
	if d, _ := distro.Find(n.Facts.OS); d.Install != "" {
		remedy = d.Install + " apparmor"
	}
	return found(remedy, "AppArmor is on and apparmor_parser is not installed, so containers run without a profile")
}

// tools are the programs that a node needs.
func tools(proxyMode string) []string {
	all := []string{"awk", "find", "flock", "getent", "grep", "modprobe", "mount", "sed", "tar"}
	switch proxyMode {
	case nftables:
		all = append(all, "nft")
	case ipvs:
		all = append(all, "ipset", "iptables")
	default:
		all = append(all, "iptables")
	}
	return all
}

func checkTools(n *Node, _ *Situation) []Finding {
	d, _ := distro.Find(n.Facts.OS)
	if missing := n.Facts.MissingTools; len(missing) > 0 {
		return found(d.InstallCommand(missing...), "%s %s not installed", strings.Join(missing, ", "), plural(len(missing), "is", "are"))
	}
	if v := parseVersion(n.Facts.Nft); n.ProxyMode == nftables && v.older(minNft) {
		return found(d.InstallCommand("nft"),
			"nft is version %s, and proxyMode nftables needs %v or newer: or set proxyMode: iptables for its pool", n.Facts.Nft, minNft)
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
