package live

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// Members queries etcd for its members; nil if none answers.
func Members(ctx context.Context, reach Reach, in stack.Input, hosts map[string]host.Host) map[string]stack.Member {
	client, err := reach.Etcd(in, hosts)
	if err != nil {
		return nil
	}
	list, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	return membersOf(list)
}

func membersOf(list []etcd.Member) map[string]stack.Member {
	found := map[string]stack.Member{}
	for _, m := range list {
		member := stack.Member{
			Healthy: m.Healthy && !m.Learner, PeerURL: strings.Join(m.PeerURLs, ","), Answers: m.Answers, Out: m.Out, Cluster: ClusterOf([]etcd.Member{m}),
		}
		switch {
		case m.Err != nil:
			member.Problem = m.Err.Error()
		case m.Learner:
			member.Problem = "it is still a learner"
		}
		found[m.Name] = member
	}
	return found
}

// Etcd connects to the members on those of the cluster's control planes that can be reached.
func Etcd(in stack.Input, hosts map[string]host.Host) (*etcd.Client, error) {
	var endpoints []etcd.Endpoint
	var anyone string
	for _, m := range in.ControlPlanes() {
		anyone = m.Name // all control planes have an equivalent client certificate
		if d, ok := hosts[m.Name].(host.Dialer); ok && in.Speaks(m.Name) {
			endpoints = append(endpoints, etcd.Endpoint{Address: netip.AddrPortFrom(m.Address, stack.EtcdClientPort).String(), Dial: d.DialContext})
		}
	}
	cert := in.PKI.Material["etcd/healthcheck-client@"+anyone]
	return etcd.New(endpoints, in.PKI.Bundle(certs.EtcdCA), cert.Cert, cert.Key)
}

// ClusterOf returns etcd's ID of the cluster, in hex, from the first member that reports it; "" if
// none does.
func ClusterOf(members []etcd.Member) string {
	for _, m := range members {
		if m.ClusterID != 0 {
			return strconv.FormatUint(m.ClusterID, 16)
		}
	}
	return ""
}
