package live

import (
	"context"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/stack"
)

// AuthenticationOf returns the hash of the AuthenticationConfiguration that the API server of a
// control plane uses, "" if it reports none. The answer has megabytes: query it at most every few
// seconds.
func AuthenticationOf(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) (string, error) {
	api, err := kube.New(APIConfig(pki, stack.APIPort, controlPlane))
	if err != nil {
		return "", err
	}
	loaded, err := api.AuthenticationConfigs(ctx)
	return strings.Join(loaded, ", "), err
}
