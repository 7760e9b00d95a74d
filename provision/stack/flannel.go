package stack

import (
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/templates"
)

const (
	// FlannelService is the unit of flanneld.
	FlannelService = "flanneld.service"
	flannelFile    = "/etc/kube-flannel/net-conf.json"
	flannelConf    = "flannel.conf"
	// StableSlipway is slipway at a path that does not change with its version, for units that need
	// not restart with it.
	StableSlipway = ProgramDir + "bin/slipway"
	// NoNetwork is the effect on pods of stopping flanneld permanently.
	NoNetwork = "pods lose their network on every node until another plugin runs"
)

// flannel is the pod network, if the spec asks for it.
var flannel = Component{
	Name: "flannel", On: func(n Node) bool { return n.flannel() },
	Unit: &Service{
		Name: FlannelService, Text: flannelUnit, Programs: []string{"flanneld"},
		Files:   []string{flannelFile, KubernetesDir + "/" + flannelConf, CAFile},
		Issuers: []string{certs.KubernetesCA}, Late: true,
		Disturbs: "connections continue; routes to new nodes arrive a moment later", Ends: NoNetwork,
	},
	Files: []ConfigFile{
		{Path: flannelFile, Render: Node.flannelConfig},
		{Path: "/etc/cni/net.d/10-flannel.conflist", Render: fixed(templates.FlannelCNI)},
	},
	Programs:    []string{"flanneld"},
	Plugins:     []string{"flannel"},
	Network:     true,
	Commands:    []Command{{"slipway", StableSlipway}},
	Certs:       []certs.Client{{Name: "flannel", CA: certs.KubernetesCA, CommonName: "system:flannel"}},
	Kubeconfigs: []Kubeconfig{{Name: flannelConf, User: "system:flannel", Port: BalancerPort, Cert: PKIDir + "/flannel"}},
	Objects:     flannelRights,
	Clients:     []Client{{Cert: PKIDir + "/flannel.crt", Port: BalancerPort}},
}

func (in *Input) flannel() bool { return in.Cluster.Spec.Network.Plugin == "flannel" }

func flannelRights(in Input) ([]byte, error) {
	if !in.flannel() {
		return nil, nil
	}
	return templates.FlannelRights()
}

func flannelUnit(n Node) templates.Unit {
	args := map[string]string{
		"kube-subnet-mgr": "true", "kubeconfig-file": KubernetesDir + "/" + flannelConf,
		"net-config-path": flannelFile, "iface": n.address(), "ip-masq": "true",
	}
	// Without its node's network flanneld ends, and is restarted: meanwhile the node is registered
	// and gets its network.
	wait := []string{
		StableSlipway, "wait-for-pod-cidr", quote("--kubeconfig=" + KubernetesDir + "/" + flannelConf), quote("--node=" + n.Name),
	}
	return templates.Unit{
		Description: "flanneld, the pod network", Type: "notify", After: []string{BalancerService},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Pre:  []string{strings.Join(wait, " ")},
		Exec: n.path("flanneld"), Args: flags(args, nil), Env: []string{"NODE_NAME=" + n.Name},
		OOMScoreAdjust: n.protect(-998),
	}
}

func (n Node) flannelConfig() ([]byte, error) {
	network := n.Cluster.Spec.Network
	return templates.Flannel{
		PodSubnet: network.PodSubnet, Backend: network.FlannelBackend, NFTables: n.ProxyMode == "nftables",
	}.Render()
}
