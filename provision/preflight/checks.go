package preflight

import (
	"slipway.dev/slipway/provision/spec"
)

// Checks is every check, in the order in which a reader looks at a machine: what it is, its kernel, its
// resources, its network, what others left. docs/preflight.md has the same rows; a test compares them.
var Checks = []Check{
	{
		Name: "os", Severity: Warning, Title: "the distribution and its version are known to slipway (docs/distributions.md)", Find: checkOS,
		Remedy: "use a distribution of the table, or try it and ignore the warning",
	},
	{Name: "architecture", Severity: Error, Title: "there are programs for the processor (amd64, arm64)", Find: checkArchitecture, Remedy: "use another machine"},
	{Name: "systemd", Severity: Error, Title: "systemd runs, in version 240 or newer", Find: checkSystemd, Remedy: "use a machine with systemd"},
	{
		Name: "systemd-degraded", Severity: Info, Title: "no unit has failed", Newcomer: true, Find: checkDegraded,
		Remedy: "look why the unit failed, and reset it",
	},
	{Name: "kernel", Severity: Error, Title: "the kernel is 4.19 or newer, and 5.13 for proxyMode nftables", Find: checkKernel, Remedy: "install a newer kernel"},
	{
		Name: "kernel-modules", Severity: Error, Title: "the kernel has overlay, br_netfilter, and what plugin and proxyMode need",
		Find: checkModules, Remedy: "install the package with more modules", Fix: true,
	},
	{
		Name: "cgroups", Severity: Error, Title: "cgroup v2 (or spec.allowCgroupV1), with cpu, memory and pids; a warning without cpuset", Find: checkCgroups,
		Remedy: "boot with systemd.unified_cgroup_hierarchy=1",
	},
	{
		Name: "swap", Severity: Warning, Title: "no swap is on; an error with the kubelet's failSwapOn: true", Computer: true, Find: checkSwap,
		Remedy: "switch it off", Fix: true,
	},
	{Name: "mounts", Severity: Error, Title: "/ is a shared mount, and programs in /opt may be executed", Newcomer: true, Find: checkMounts, Remedy: "remount"},
	{Name: "read-only", Severity: Error, Title: "/etc, /opt, /var/lib and /usr/local/bin can be written", Newcomer: true, Find: checkReadOnly, Remedy: "remount"},
	{Name: "kmsg", Severity: Error, Title: "/dev/kmsg exists, which the kubelet reads", Find: checkKmsg, Remedy: "make it", Fix: true},
	{
		Name: "limits", Severity: Warning, Title: "inotify, open files and process IDs are not limited to less than usual", Find: checkLimits,
		Remedy: "raise the kernel parameter", Fix: true,
	},
	{
		Name: "selinux", Severity: Warning, Title: "SELinux is not in enforcing mode, in which slipway is not tried", Computer: true, Find: checkSELinux,
		Remedy: "make it permissive",
	},
	{
		Name: "apparmor", Severity: Info, Title: "with AppArmor, apparmor_parser can load the profile of containers", Computer: true, Find: checkAppArmor,
		Remedy: "install it",
	},
	{
		Name: "tools", Severity: Error, Title: "the programs that slipway and the components run are installed", Find: checkTools,
		Remedy: "install the package", Fix: true,
	},
	{
		Name: "cpus", Severity: Error, Title: "a control plane has 2 CPUs (kubeadm's minimum)", On: spec.ControlPlane, Computer: true, Find: checkCPUs,
		Remedy: "use a larger machine",
	},
	{
		Name: "memory", Severity: Error, Title: "a control plane has 1700 MB of memory (kubeadm's minimum); a warning for a worker below 700 MB", Computer: true,
		Find: checkMemory, Remedy: "use a larger machine",
	},
	{Name: "disk-space", Severity: Error, Title: "there is room for etcd, containers, programs and logs", Find: checkSpace, Remedy: "free space"},
	{
		Name: "disk-latency", Severity: Warning, Title: "99 of 100 writes to etcd's disk take less than 10 ms (etcd's rule)", On: spec.ControlPlane,
		Computer: true, Newcomer: true, Find: checkLatency, Remedy: "use a faster disk",
	},
	{
		Name: "clock", Severity: Warning, Title: "clocks agree within a second (etcd's rule); an error from 4 minutes (certificates)", Find: checkClock,
		Remedy: "synchronize the clocks",
	},
	{Name: "machine-id", Severity: Error, Title: "/etc/machine-id is there, and no other machine has it", Find: checkMachineID, Remedy: "make a new one"},
	{Name: "mac-address", Severity: Error, Title: "no other machine has its MAC address", Find: checkMAC, Remedy: "give it another one"},
	{Name: "hostname", Severity: Warning, Title: "no other machine has its host name, and no other node its name", Find: checkHostname, Remedy: "rename it"},
	{Name: "product-uuid", Severity: Info, Title: "no other machine has its product_uuid (DMI)", Find: checkProduct, Remedy: "none is needed"},
	{
		Name: "address", Severity: Error, Title: "the node's address is one of the machine's, and of no other machine", Find: checkAddress,
		Remedy: "correct the address in the spec",
	},
	{
		Name: "networks", Severity: Error, Title: "no address of the machine is in the networks of pods or Services", Newcomer: true,
		Find: checkNetworks, Remedy: "choose another subnet",
	},
	{
		Name: "dns", Severity: Warning, Title: "the resolver is not only the machine itself, so that pods can use it", Computer: true, Find: checkDNS,
		Remedy: "name another server",
	},
	{Name: "own-name", Severity: Warning, Title: "the machine resolves its own host name", Find: checkOwnName, Remedy: "add it to /etc/hosts"},
	{Name: "mtu", Severity: Warning, Title: "full packets pass between machines, and their MTUs agree", Find: checkMTU, Remedy: "set the MTU"},
	{
		Name: "ports-in-use", Severity: Error, Title: "no other program listens on a port of the node (docs/ports.md)", Newcomer: true,
		Find: checkPorts, Remedy: "stop it",
	},
	{
		Name: "ports-blocked", Severity: Error, Title: "the other nodes reach the node's ports (docs/ports.md): each is tried, from each", Find: checkWays,
		Remedy: "open the port",
	},
	{
		Name: "firewall", Severity: Warning, Title: "where the ports could not be tried: firewalld and ufw are off, or have them open", Newcomer: true,
		Find: checkFirewall, Remedy: "open the ports",
	},
	{
		Name: "endpoint", Severity: Error, Title: "the API server's certificate has the name of spec.controlPlane.endpoint", On: spec.ControlPlane,
		Find: checkEndpoint, Remedy: "add it to spec.controlPlane.certSANs",
	},
	{
		Name: "leftovers", Severity: Error, Title: "no files of another installer: kubeadm, k3s, RKE2, k0s, MicroK8s", Newcomer: true, Find: checkLeftovers,
		Remedy: "uninstall it, or move them away: slipway never removes them, and names no command that does",
	},
	{Name: "cni-config", Severity: Error, Title: "no network configuration of another plugin", Newcomer: true, Find: checkCNI, Remedy: "move it away"},
	{
		Name: "other-runtime", Severity: Error, Title: "no kubelet, container runtime or other component runs that is not slipway's", Newcomer: true,
		Find: checkProcesses, Remedy: "stop it",
	},
	{
		Name: "kube-iptables", Severity: Warning, Title: "no rules of another kube-proxy", Newcomer: true, Find: checkChains, Remedy: "remove them",
	},
}
