package stack

import (
	"strings"

	"slipway.dev/slipway/templates"
)

// Directories and files of the PKI, the same as kubeadm's, and slipway's own paths.
const (
	KubernetesDir = "/etc/kubernetes"
	PKIDir        = KubernetesDir + "/pki"
	CAFile        = PKIDir + "/ca.crt"
	searchPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	commandDir    = "/usr/local/bin/"

	// ProgramDir has the bundle's artifacts, by component and version.
	ProgramDir = "/opt/slipway/"
	// UnitDir has the unit files.
	UnitDir = "/etc/systemd/system/"

	// AuthoritiesFile lists the CAs that the host trusts by the fingerprints of their keys.
	AuthoritiesFile = "/var/lib/slipway/authorities"
	// OwnedFile lists every path that slipway wrote on the host, one per line after the digest of
	// its content. So files that leave the spec are removed from the host, and changes by others
	// are detected.
	OwnedFile = "/var/lib/slipway/owned"
	// ClusterFile has the UID of the host's cluster, followed by a space and the generation if
	// there is one.
	ClusterFile = "/var/lib/slipway/cluster"
	// InitializedFile records that this host has been part of a cluster that was up.
	InitializedFile = "/var/lib/slipway/initialized"
	// ConnectionsDir has a file for each unit whose client certificate was renewed since the host booted: the connections
	// that it had then, as connections.sh keeps them.
	ConnectionsDir = "/run/slipway/clients"
)

// stackSlice is the slice of the cluster's own services that start no containers, stackSliceFile
// its unit file. The kubelet and containerd stay outside: the processes that they have started
// outlive them in their control groups.
const (
	stackSlice     = "slipway.slice"
	stackSliceFile = UnitDir + stackSlice
)

// base is what every node has, whatever runs on it.
var base = Component{
	Name: "base", On: Everywhere,
	Files: []ConfigFile{
		{Path: AuthoritiesFile, On: Node.ControlPlane, Render: func(n Node) ([]byte, error) { return authorityRing(n.PKI), nil }},
		{Path: ClusterFile, Render: func(n Node) ([]byte, error) { return []byte(strings.TrimSpace(n.UID+" "+n.Generation) + "\n"), nil }},
		{Path: "/etc/crictl.yaml", Render: fixed(templates.Crictl), Public: true, Unread: true},
		{Path: "/etc/sysctl.d/90-slipway.conf", Render: fixed(templates.Sysctls), Public: true},
		{Path: "/etc/modules-load.d/slipway.conf", Render: Node.modules, Public: true},
		{Path: stackSliceFile, Render: fixed(templates.StackSlice)},
	},
	Programs: []string{"crictl", "kubectl"},
	Commands: []Command{{"crictl", commandDir + "crictl"}, {"kubectl", commandDir + "kubectl"}},
	Objects:  basics,
	Modules:  func(Node) []string { return []string{"br_netfilter", "overlay"} }, // for bridged pods, and for containerd
}

func basics(in Input) ([]byte, error) {
	info, err := ClusterInfo(in)
	if err != nil {
		return nil, err
	}
	return templates.Basics{ClusterInfo: string(info), UID: in.UID}.Render()
}

// sysctlTable is the content of the sysctl file, for comparison with hosts. Keys that a host lacks
// are skipped.
var sysctlTable = map[string]string{
	"net.ipv4.ip_forward":                 "1",
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
}

// fixed returns a renderer whose output does not depend on the node.
func fixed(text func() []byte) func(Node) ([]byte, error) {
	return func(Node) ([]byte, error) { return text(), nil }
}

func (n Node) modules() ([]byte, error) { return templates.Modules{Names: n.moduleNames()}.Render() }

// moduleNames are the kernel modules that the node's components use.
func (n Node) moduleNames() []string {
	var names []string
	for _, c := range n.components {
		if c.Modules != nil {
			names = append(names, c.Modules(n)...)
		}
	}
	return names
}

func (n Node) binDir(artifact string) string {
	p := n.path(artifact)
	return p[:strings.LastIndexByte(p, '/')]
}

// protect returns an OOM score adjustment if the host may grant one.
func (n Node) protect(score int) int {
	if !n.facts.SysResource {
		return 0
	}
	return score
}
