package stack

import (
	"slipway.dev/slipway/templates"
)

// certificates exports the expiry of a node's certificates to Prometheus, if the spec asks for it.
var certificates = Component{
	Name: "slipway-certificates", On: Node.expiryMetrics,
	Timer: &Timer{
		Name: "slipway-certificates", Description: "Look when this node's certificates end", Every: "1h", Service: certificatesUnit,
	},
}

func (n Node) expiryMetrics() bool { return n.Cluster.Spec.PKI.ExpiryMetrics.Directory != "" }

func certificatesUnit(n Node) templates.Unit {
	args := map[string]string{"directory": n.Cluster.Spec.PKI.ExpiryMetrics.Directory, "node": n.Name, "address": n.address()}
	if n.ControlPlane() {
		args["control-plane"] = "true"
	}
	return templates.Unit{
		Description: "Write when this node's certificates end, for Prometheus", Type: "oneshot",
		Exec: n.path("slipway"), Args: append([]string{"certs", "textfile"}, flags(args, nil)...),
	}
}
