package live

import (
	"context"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/stack"
)

// AuthenticationOf is the hash of the AuthenticationConfiguration by which the API server of a control plane works, "" where
// it names none. Its answer has megabytes: ask every few seconds at the most.
func AuthenticationOf(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) (string, error) {
	api, err := kube.New(APIConfig(pki, stack.APIPort, controlPlane))
	if err != nil {
		return "", err
	}
	loaded, err := api.AuthenticationConfigs(ctx)
	return strings.Join(loaded, ", "), err
}
