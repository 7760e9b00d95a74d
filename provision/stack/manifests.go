package stack

import (
	"cmp"

	"slipway.dev/slipway/templates"
)

// Manifests renders the objects that every cluster gets.
func Manifests(in Input) ([]byte, error) {
	info, err := ClusterInfo(in)
	if err != nil {
		return nil, err
	}
	network := in.Cluster.Spec.Network
	forward := false
	for _, f := range in.Facts {
		forward = forward || f.ResolvConf != ""
	}
	return templates.Manifests{
		ClusterInfo: string(info), UID: in.UID, DNSDomain: network.DNSDomain, ClusterIP: network.DNSServiceIP().String(),
		Image: in.Artifacts["image/coredns"].Image, Replicas: cmp.Or(network.DNS.Replicas, min(2, len(in.Machines))),
		YieldReplicas: network.DNS.Replicas == 0, ExtraCorefile: network.DNS.ExtraCorefile,
		Forward: forward, Flannel: network.Plugin == "flannel",
	}.Render()
}

// The cluster's DNS.
const (
	DNSNamespace = "kube-system"
	DNSName      = "coredns"
)
