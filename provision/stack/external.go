package stack

import (
	"slipway.dev/slipway/provision/spec"
)

// ExternalEndpoint returns where clients outside the cluster reach the API, "host:port": the
// spec's, or the provider's.
func ExternalEndpoint(c *spec.Cluster, infra *spec.Infrastructure) string {
	if e := c.Spec.ControlPlane.Endpoint; e != "" {
		return e
	}
	return infra.Endpoint
}
