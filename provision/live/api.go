package live

import (
	"context"
	"errors"
	"net"

	"k8s.io/client-go/rest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/stack"
)

// API connects to the cluster's API as its super admin, through the balancer of the first of its
// control planes that can be reached over SSH: the operator needs only SSH.
func API(in stack.Input, hosts map[string]host.Host) (*kube.Client, error) {
	var dialers []host.Dialer
	for _, m := range in.Ours() {
		if d, ok := hosts[m.Name].(host.Dialer); ok {
			dialers = append(dialers, d)
		}
	}
	return kube.New(APIConfig(in.PKI, stack.BalancerPort, dialers...))
}

// APIConfig connects to a port of the loopback interface of the first host that accepts the
// connection.
func APIConfig(pki *certs.PKI, port int, hosts ...host.Dialer) *rest.Config {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if len(hosts) == 0 {
			return nil, errors.New("no control plane can be reached")
		}
		var errs []error
		for _, h := range hosts {
			conn, err := h.DialContext(ctx, network, address)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	admin := pki.Material[certs.SuperAdmin]
	return kube.Config(dial, stack.LoopbackURL(port), pki.Bundle(certs.KubernetesCA), admin.Cert, admin.Key)
}
