package provision

import (
	"io/fs"
	"net/netip"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// Configuration files, where they are on a host.
const (
	auditPolicyFile    = kubernetesDir + "/audit-policy.yaml"
	authenticationFile = kubernetesDir + "/authentication.yaml"
	admissionFile      = kubernetesDir + "/admission.yaml"
	encryptionFile     = kubernetesDir + "/encryption.yaml"
	// encryptionKeysFile tells the keys of Secrets at rest by their fingerprints: not which is first, and no secret.
	encryptionKeysFile = "/var/lib/slipway/encryption-keys"
	// authoritiesFile tells the authorities that the host trusts by the fingerprints of their keys.
	authoritiesFile = "/var/lib/slipway/authorities"
	schedulerFile   = kubernetesDir + "/kube-scheduler.yaml"
	proxyFile       = kubernetesDir + "/kube-proxy.yaml"
	balancerFile    = kubernetesDir + "/balancer.json"
	kubeletFile     = "/var/lib/kubelet/config.yaml"
	flannelFile     = "/etc/kube-flannel/net-conf.json"
	noResolvConf    = kubernetesDir + "/resolv.conf"

	// ownedFile lists every path that slipway put on the host, one a line after the digest of what it put there:
	// what leaves the spec leaves the host, and what somebody else has changed is known as such.
	ownedFile = "/var/lib/slipway/owned"
	// clusterFile has the UID of the cluster that the host is part of, and its generation after a space where it has one.
	clusterFile = "/var/lib/slipway/cluster"
	// initializedFile says that this host has been part of a cluster that was up.
	initializedFile = "/var/lib/slipway/initialized"
	unitDir         = "/etc/systemd/system/"
)

// fileRow is one configuration file.
type fileRow struct {
	path   string
	on     func(node) bool
	render func(node) ([]byte, error)
	secret bool
	// public files are for others than root, too.
	public bool
}

// fixed is a renderer that has nothing to say about the node.
func fixed(text func() []byte) func(node) ([]byte, error) {
	return func(node) ([]byte, error) { return text(), nil }
}

var fileTable = []fileRow{
	{path: auditPolicyFile, on: node.controlPlane, render: node.auditPolicy},
	{path: authenticationFile, on: node.controlPlane, render: node.authentication},
	{path: admissionFile, on: node.controlPlane, render: node.podSecurity},
	{path: encryptionFile, on: node.controlPlane, render: node.encryption, secret: true},
	{path: encryptionKeysFile, on: node.controlPlane, render: func(n node) ([]byte, error) { return keyRing(n.EncryptionKeys...), nil }},
	{path: authoritiesFile, on: node.controlPlane, render: func(n node) ([]byte, error) { return authorityRing(n.PKI), nil }},
	{path: clusterFile, on: everywhere, render: func(n node) ([]byte, error) { return []byte(strings.TrimSpace(n.UID+" "+n.Generation) + "\n"), nil }},
	{path: schedulerFile, on: node.controlPlane, render: node.schedulerConfig},
	{path: proxyFile, on: everywhere, render: node.proxyConfig},
	{path: balancerFile, on: everywhere, render: node.balancerConfig},
	{path: kubeletFile, on: everywhere, render: node.kubeletConfig},
	{path: flannelFile, on: node.flannel, render: node.flannelConfig},
	{path: "/etc/cni/net.d/10-flannel.conflist", on: node.flannel, render: fixed(templates.FlannelCNI)},
	{path: "/etc/containerd/config.toml", on: everywhere, render: node.containerdConfig},
	{path: "/etc/crictl.yaml", on: everywhere, render: fixed(templates.Crictl), public: true},
	{path: "/etc/sysctl.d/90-slipway.conf", on: everywhere, render: fixed(templates.Sysctls), public: true},
	{path: "/etc/modules-load.d/slipway.conf", on: everywhere, render: node.modules, public: true},
	{path: accountsFile, on: node.controlPlane, render: fixed(templates.Accounts), public: true},
	{path: stackSliceFile, on: everywhere, render: fixed(templates.StackSlice)},
	{path: noResolvConf, on: node.noResolver, render: fixed(func() []byte { return []byte("# No resolver that pods could reach.\n") }), public: true},
}

// programTable says which programs of the bundle a host gets.
var programTable = []struct {
	on    func(node) bool
	names []string
}{
	{everywhere, []string{
		"containerd", "containerd-shim-runc-v2", "ctr", "runc", "crictl", "kubelet", "kube-proxy", "kubectl", "slipway",
		"bridge", "loopback", "host-local", "portmap", "image/pause", "image/coredns",
	}},
	{node.flannel, []string{"flanneld", "flannel"}},
	{node.controlPlane, []string{"etcd", "etcdctl", "etcdutl", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}},
}

// stableRunc is runc at a place that does not change with its version: a container's shim remembers it for as long as
// the container lives.
const stableRunc = programDir + "bin/runc"

// stableSlipway is slipway at a place that does not change with its version, for units that need not restart with it.
const stableSlipway = programDir + "bin/slipway"

// programDir has the bundle's artifacts, by component and version.
const programDir = "/opt/slipway/"

// commandTable are the programs that are wanted at places that do not change with their versions: people expect them on
// the PATH of a node.
var commandTable = []struct {
	on       func(node) bool
	name, at string
}{
	{everywhere, "runc", stableRunc},
	{node.flannel, "slipway", stableSlipway},
	{everywhere, "ctr", "/usr/local/bin/ctr"},
	{everywhere, "crictl", "/usr/local/bin/crictl"},
	{everywhere, "kubectl", "/usr/local/bin/kubectl"},
	{node.controlPlane, "etcdctl", "/usr/local/bin/etcdctl"},
}

// sysctlTable is what the sysctl file comes to, for hosts to be checked against. Keys that a host lacks are passed over.
var sysctlTable = map[string]string{
	"net.ipv4.ip_forward":                 "1",
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
}

func (n node) auditPolicy() ([]byte, error) {
	return templates.AuditPolicy{Policy: n.Cluster.Spec.Kubernetes.APIServer.AuditPolicy}.Render()
}

func (n node) authentication() ([]byte, error) {
	return templates.Authentication{JWT: n.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT}.Render()
}

func (n node) podSecurity() ([]byte, error) {
	p := n.Cluster.Spec.PodSecurity
	return templates.PodSecurity{Enforce: p.Enforce, Warn: p.Warn, Audit: p.Audit}.Render()
}

func (n node) encryption() ([]byte, error) {
	return EncryptionConfig(n.EncryptionKeys)
}

func (n node) schedulerConfig() ([]byte, error) {
	return templates.Scheduler{Patch: n.Cluster.Spec.Kubernetes.Scheduler.ConfigPatch}.Render()
}

func (n node) proxyConfig() ([]byte, error) {
	return templates.Proxy{
		NodeName: n.Name, PodSubnet: n.Cluster.Spec.Network.PodSubnet, Mode: n.Cluster.Spec.Network.ProxyMode,
		ConntrackWritable: n.facts.ConntrackWritable, RestrictOOMScoreAdj: !n.facts.SysResource,
		Patch: n.Cluster.Spec.Kubernetes.Proxy.ConfigPatch,
	}.Render()
}

func (n node) modules() ([]byte, error) { return templates.Modules{Names: n.moduleNames()}.Render() }

// moduleNames are the kernel modules that the stack uses: overlay for containerd, br_netfilter for bridged pods.
func (n node) moduleNames() []string {
	names := []string{"br_netfilter", "overlay"}
	if n.Cluster.Spec.Network.ProxyMode == "ipvs" {
		names = append(names, "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
	}
	return names
}

func (n node) balancerConfig() ([]byte, error) {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), balancerPort).String()
	return templates.Balancer{Listen: []string{local}, Backends: n.APIServers(), CAFile: pkiDir + "/ca.crt"}.Render()
}

func (n node) kubeletConfig() ([]byte, error) {
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
	for _, t := range n.taints() {
		k.Taints = append(k.Taints, templates.Taint(t))
	}
	return k.Render()
}

// taints are the pool's, after the one that keeps workloads off control planes.
func (n node) taints() []spec.Taint {
	if !n.controlPlane() {
		return n.Taints
	}
	own := spec.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}
	return append([]spec.Taint{own}, n.Taints...)
}

func (n node) flannelConfig() ([]byte, error) {
	network := n.Cluster.Spec.Network
	return templates.Flannel{
		PodSubnet: network.PodSubnet, Backend: network.FlannelBackend, NFTables: network.ProxyMode == "nftables",
	}.Render()
}

func (n node) containerdConfig() ([]byte, error) {
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

func (n node) noResolver() bool { return n.facts.ResolvConf == "" }

// programs are the links (or copies) of the bundle's artifacts on a host.
func (n node) programs() (map[string]File, error) {
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
func (n node) images() []string {
	return []string{n.Artifacts["image/pause"].Image, n.Artifacts["image/coredns"].Image}
}

func link(target, why string) File {
	return File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: target, Content: []byte(target), Why: why}
}
