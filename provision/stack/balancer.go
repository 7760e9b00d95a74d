package stack

import (
	"net/netip"

	"slipway.dev/slipway/templates"
)

// The balancer's unit, port and configuration.
const (
	// BalancerService is a node's proxy to the API servers.
	BalancerService = "slipway-balancer.service"
	// BalancerPort is its port, on the loopback interface.
	BalancerPort = 6444
	BalancerFile = KubernetesDir + "/balancer.json"
)

// balancer connects a node's clients to an API server that is ready.
var balancer = Component{
	Name: "slipway-balancer", On: Everywhere,
	Unit: &Service{
		Name: BalancerService, Text: balancerUnit, Programs: []string{"slipway"},
		Health:   "https://127.0.0.1:6444/readyz", // of any API server, through it
		Disturbs: "connections through it to the API break and are reopened; pods continue to run",
	},
	Files:    []ConfigFile{{Path: BalancerFile, Render: Node.balancerConfig}},
	Programs: []string{"slipway"},
}

func balancerUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "slipway balancer, this node's way to the API servers", Type: "notify",
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("slipway"), Args: []string{"balancer", "--config=" + BalancerFile},
		OOMScoreAdjust: n.protect(-998),
	}
}

func (n Node) balancerConfig() ([]byte, error) {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), BalancerPort).String()
	return templates.Balancer{Listen: []string{local}, Backends: n.APIServers(), CAFile: PKIDir + "/ca.crt"}.Render()
}
