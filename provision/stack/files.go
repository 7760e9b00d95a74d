package stack

import (
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// Configuration files, where they are on a host.
const (
	auditPolicyFile    = KubernetesDir + "/audit-policy.yaml"
	AuthenticationFile = KubernetesDir + "/authentication.yaml"
	admissionFile      = KubernetesDir + "/admission.yaml"
	EncryptionFile     = KubernetesDir + "/encryption.yaml"
	// EncryptionKeysFile tells the keys of Secrets at rest by their fingerprints: not which is first, and no secret.
	EncryptionKeysFile = "/var/lib/slipway/encryption-keys"
	// AuthoritiesFile tells the authorities that the host trusts by the fingerprints of their keys.
	AuthoritiesFile = "/var/lib/slipway/authorities"
	schedulerFile   = KubernetesDir + "/kube-scheduler.yaml"
	proxyFile       = KubernetesDir + "/kube-proxy.yaml"
	BalancerFile    = KubernetesDir + "/balancer.json"
	KubeletFile     = "/var/lib/kubelet/config.yaml"
	flannelFile     = "/etc/kube-flannel/net-conf.json"
	noResolvConf    = KubernetesDir + "/resolv.conf"

	// OwnedFile lists every path that slipway put on the host, one a line after the digest of what it put there:
	// what leaves the spec leaves the host, and what somebody else has changed is known as such.
	OwnedFile = "/var/lib/slipway/owned"
	// ClusterFile has the UID of the cluster that the host is part of, and its generation after a space where it has one.
	ClusterFile = "/var/lib/slipway/cluster"
	// InitializedFile says that this host has been part of a cluster that was up.
	InitializedFile = "/var/lib/slipway/initialized"
	UnitDir         = "/etc/systemd/system/"
)

// fileRow is one configuration file.
type fileRow struct {
	path   string
	on     func(Node) bool
	render func(Node) ([]byte, error)
	secret bool
	// public files are for others than root, too.
	public bool
}

// fixed is a renderer that has nothing to say about the node.
func fixed(text func() []byte) func(Node) ([]byte, error) {
	return func(Node) ([]byte, error) { return text(), nil }
}

var fileTable = []fileRow{
	{path: auditPolicyFile, on: Node.ControlPlane, render: Node.auditPolicy},
	{path: AuthenticationFile, on: Node.ControlPlane, render: Node.authentication},
	{path: admissionFile, on: Node.ControlPlane, render: Node.podSecurity},
	{path: EncryptionFile, on: Node.ControlPlane, render: Node.encryption, secret: true},
	{path: EncryptionKeysFile, on: Node.ControlPlane, render: func(n Node) ([]byte, error) { return keyRing(n.EncryptionKeys...), nil }},
	{path: AuthoritiesFile, on: Node.ControlPlane, render: func(n Node) ([]byte, error) { return authorityRing(n.PKI), nil }},
	{path: ClusterFile, on: Everywhere, render: func(n Node) ([]byte, error) { return []byte(strings.TrimSpace(n.UID+" "+n.Generation) + "\n"), nil }},
	{path: schedulerFile, on: Node.ControlPlane, render: Node.schedulerConfig},
	{path: proxyFile, on: Everywhere, render: Node.proxyConfig},
	{path: BalancerFile, on: Everywhere, render: Node.balancerConfig},
	{path: KubeletFile, on: Everywhere, render: Node.kubeletConfig},
	{path: flannelFile, on: Node.flannel, render: Node.flannelConfig},
	{path: "/etc/cni/net.d/10-flannel.conflist", on: Node.flannel, render: fixed(templates.FlannelCNI)},
	{path: "/etc/containerd/config.toml", on: Everywhere, render: Node.containerdConfig},
	{path: "/etc/crictl.yaml", on: Everywhere, render: fixed(templates.Crictl), public: true},
	{path: "/etc/sysctl.d/90-slipway.conf", on: Everywhere, render: fixed(templates.Sysctls), public: true},
	{path: "/etc/modules-load.d/slipway.conf", on: Everywhere, render: Node.modules, public: true},
	{path: AccountsFile, on: Node.ControlPlane, render: fixed(templates.Accounts), public: true},
	{path: stackSliceFile, on: Everywhere, render: fixed(templates.StackSlice)},
	{path: noResolvConf, on: Node.noResolver, render: fixed(func() []byte { return []byte("# No resolver that pods could reach.\n") }), public: true},
}

// programTable says which programs of the bundle a host gets.
var programTable = []struct {
	on    func(Node) bool
	names []string
}{
	{Everywhere, []string{
		"containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl", "kubelet", "kube-proxy", "kubectl", "slipway",
		"bridge", "loopback", "host-local", "portmap", "image/pause", "image/coredns",
	}},
	{Node.flannel, []string{"flanneld", "flannel"}},
	{Node.ControlPlane, []string{"etcd", "etcdctl", "etcdutl", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}},
}

// Programs are the names of the artifacts that the hosts of a cluster get, sorted; images are "image/<name>".
func Programs() []string {
	var all []string
	for _, row := range programTable {
		all = append(all, row.names...)
	}
	slices.Sort(all)
	return all
}

// stableRunc is runc at a place that does not change with its version: a container's shim remembers it for as long as
// the container lives.
const stableRunc = ProgramDir + "bin/runc"

// StableSlipway is slipway at a place that does not change with its version, for units that need not restart with it.
const StableSlipway = ProgramDir + "bin/slipway"

// ProgramDir has the bundle's artifacts, by component and version.
const ProgramDir = "/opt/slipway/"

// commandTable are the programs that are wanted at places that do not change with their versions: people expect them on
// the PATH of a node.
var commandTable = []struct {
	on       func(Node) bool
	name, at string
}{
	{Everywhere, "runc", stableRunc},
	{Node.flannel, "slipway", StableSlipway},
	{Everywhere, "ctr", "/usr/local/bin/ctr"},
	{Everywhere, "crictl", "/usr/local/bin/crictl"},
	{Everywhere, "kubectl", "/usr/local/bin/kubectl"},
	{Node.ControlPlane, "etcdctl", "/usr/local/bin/etcdctl"},
}

// sysctlTable is what the sysctl file comes to, for hosts to be checked against. Keys that a host lacks are passed over.
var sysctlTable = map[string]string{
	"net.ipv4.ip_forward":                 "1",
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
}

func (n Node) auditPolicy() ([]byte, error) {
	return templates.AuditPolicy{Policy: n.Cluster.Spec.Kubernetes.APIServer.AuditPolicy}.Render()
}

func (n Node) authentication() ([]byte, error) {
	return templates.Authentication{JWT: n.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT}.Render()
}

func (n Node) podSecurity() ([]byte, error) {
	p := n.Cluster.Spec.PodSecurity
	return templates.PodSecurity{Enforce: p.Enforce, Warn: p.Warn, Audit: p.Audit}.Render()
}

func (n Node) encryption() ([]byte, error) {
	return EncryptionConfig(n.EncryptionKeys)
}

func (n Node) schedulerConfig() ([]byte, error) {
	return templates.Scheduler{Patch: n.Cluster.Spec.Kubernetes.Scheduler.ConfigPatch}.Render()
}

func (n Node) proxyConfig() ([]byte, error) {
	return templates.Proxy{
		NodeName: n.Name, PodSubnet: n.Cluster.Spec.Network.PodSubnet, Mode: n.Cluster.Spec.Network.ProxyMode,
		ConntrackWritable: n.facts.ConntrackWritable, RestrictOOMScoreAdj: !n.facts.SysResource,
		Patch: n.Cluster.Spec.Kubernetes.Proxy.ConfigPatch,
	}.Render()
}

func (n Node) modules() ([]byte, error) { return templates.Modules{Names: n.moduleNames()}.Render() }

// moduleNames are the kernel modules that the stack uses: overlay for containerd, br_netfilter for bridged pods.
func (n Node) moduleNames() []string {
	names := []string{"br_netfilter", "overlay"}
	if n.Cluster.Spec.Network.ProxyMode == "ipvs" {
		names = append(names, "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
	}
	return names
}

func (n Node) balancerConfig() ([]byte, error) {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), BalancerPort).String()
	return templates.Balancer{Listen: []string{local}, Backends: n.APIServers(), CAFile: PKIDir + "/ca.crt"}.Render()
}

func (n Node) kubeletConfig() ([]byte, error) {
	k := templates.Kubelet{
		CgroupDriver: "systemd", AllowCgroupV1: *n.Cluster.Spec.AllowCgroupV1,
		ClusterDNS: n.Cluster.Spec.Network.DNSServiceIP().String(), DNSDomain: n.Cluster.Spec.Network.DNSDomain,
		ResolvConf: n.facts.ResolvConf, RestrictOOMScoreAdj: !n.facts.SysResource, SharedDisk: n.machine.SharedDisk,
		Reserved: reservations[n.Role], Patch: n.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch,
	}
	if !n.facts.CgroupV2 {
		k.CgroupDriver = "cgroupfs" // the systemd driver needs the unified hierarchy to be of use
	}
	if n.noResolver() {
		k.ResolvConf = noResolvConf
	}
	for _, t := range n.AllTaints() {
		k.Taints = append(k.Taints, templates.Taint(t))
	}
	return k.Render()
}

// AllTaints are the pool's, after the one that keeps workloads off control planes.
func (n Node) AllTaints() []spec.Taint {
	if !n.ControlPlane() {
		return n.Taints
	}
	own := spec.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}
	return append([]spec.Taint{own}, n.Taints...)
}

func (n Node) flannelConfig() ([]byte, error) {
	network := n.Cluster.Spec.Network
	return templates.Flannel{
		PodSubnet: network.PodSubnet, Backend: network.FlannelBackend, NFTables: network.ProxyMode == "nftables",
	}.Render()
}

func (n Node) containerdConfig() ([]byte, error) {
	dirs := []string{n.binDir("bridge")}
	if n.flannel() {
		dirs = append(dirs, n.binDir("flannel"))
	}
	return templates.Containerd{
		PauseImage: n.Artifacts["image/pause"].Image, Runc: stableRunc,
		SystemdCgroup: n.facts.CgroupV2, RestrictOOMScoreAdj: !n.facts.SysResource,
		CNIBinDirs: append(dirs, "/opt/cni/bin"),
	}.Render()
}

func (n Node) noResolver() bool { return n.facts.ResolvConf == "" }

// programs are the links (or copies) of the bundle's artifacts on a host.
func (n Node) programs() (map[string]File, error) {
	files := map[string]File{}
	for _, row := range programTable {
		if !row.on(n) {
			continue
		}
		for _, name := range row.names {
			artifact, ok := n.Artifacts[name]
			if !ok {
				return nil, missingArtifact(name)
			}
			files[artifact.Path()] = n.artifactFile(artifact)
		}
	}
	for _, row := range commandTable {
		if row.on(n) {
			files[row.at] = link(n.path(row.name), "at a place that does not change")
		}
	}
	return files, nil
}

// images are the references that the runtime has once the bundle's are imported.
func (n Node) images() []string {
	return []string{n.Artifacts["image/pause"].Image, n.Artifacts["image/coredns"].Image}
}

func link(target, why string) File {
	return File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: target, Content: []byte(target), Why: why}
}
