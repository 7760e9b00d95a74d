package stack

import (
	"cmp"

	"slipway.dev/slipway/templates"
)

// The cluster's DNS.
const (
	DNSNamespace = "kube-system"
	DNSName      = "coredns"

	dnsImage = "image/coredns"
)

// coreDNS is the cluster's DNS. It runs as pods: a node has only its image.
var coreDNS = Component{Name: "coredns", On: Everywhere, Images: []string{dnsImage}, Objects: dnsObjects}

func dnsObjects(in Input) ([]byte, error) {
	network := in.Cluster.Spec.Network
	forward := false
	for _, f := range in.Facts {
		forward = forward || f.ResolvConf != ""
	}
	image := in.Artifacts.For("")[dnsImage].Image // nodes have it of their own architecture, by the same name
	return templates.CoreDNS{
		DNSDomain: network.DNSDomain, ClusterIP: network.DNSServiceIP().String(), Image: image,
		Replicas: cmp.Or(network.DNS.Replicas, min(2, len(in.Machines))), YieldReplicas: network.DNS.Replicas == 0,
		ExtraCorefile: network.DNS.ExtraCorefile, Forward: forward,
	}.Render()
}
