package converge

import (
	"context"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/stack"
)

// Survey is what a rotation will affect in a cluster, besides its hosts.
type Survey struct {
	// Nodes in the API, sorted.
	Nodes []string
	// Workloads that stage rollout replaces or waits for; in that stage, those that are left.
	Workloads []kube.Workload
	// TokenSecrets are Secrets ("namespace/name") with a token of the key that is replaced, which
	// users have to renew.
	TokenSecrets []string
}

// NewSurvey queries the API, through any control plane that answers, for what the rotation in the
// PKI of in affects. It changes nothing. Of in it needs machines and PKI.
func NewSurvey(ctx context.Context, in stack.Input, hosts map[string]host.Host) (Survey, error) {
	api, err := live.API(in, hosts)
	if err != nil {
		return Survey{}, err
	}
	return survey(ctx, api, in.PKI)
}

func survey(ctx context.Context, api live.APIClient, pki *certs.PKI) (Survey, error) {
	short, cancel := context.WithTimeout(ctx, live.CompareTimeout) // fail soon if the API does not answer
	defer cancel()
	nodes, err := api.Nodes(short)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Nodes: slices.Sorted(maps.Keys(nodes))}
	r := pki.Rotation
	if !slices.Contains(r.Remaining(), certs.Rollout) {
		return s, nil
	}
	if s.Workloads, err = workloadsLeft(ctx, api, r); err != nil || !r.Has(certs.ServiceAccounts) {
		return s, err
	}
	secrets, err := api.TokenSecrets(ctx)
	if err != nil {
		return Survey{}, err
	}
	kept, err := keyID(keptKey(pki))
	s.TokenSecrets = otherTokens(secrets, kept)
	return s, err
}

// workloadsTimeout bounds listing all objects in a cluster.
const workloadsTimeout = 2 * time.Minute

// workloadsLeft returns all workloads, or in stage rollout those that still have to be replaced.
func workloadsLeft(ctx context.Context, api live.APIClient, r *certs.Rotation) ([]kube.Workload, error) {
	ctx, cancel := context.WithTimeout(ctx, workloadsTimeout)
	defer cancel()
	workloads, err := api.Workloads(ctx)
	if err != nil || r.Stage != certs.Rollout {
		return workloads, err
	}
	return kube.Stale(workloads, staleBefore(r)), nil
}

// keptKey returns the public key of service accounts that stays after the rotation.
func keptKey(pki *certs.PKI) []byte {
	if pki.Rotation.Back || pki.Rotation.UsesNew(certs.ServiceAccounts) {
		return pki.Material[certs.ServiceAccounts].Cert
	}
	return pki.Other[certs.ServiceAccounts].Cert
}
