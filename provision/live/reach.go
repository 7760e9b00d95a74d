package live

import (
	"context"
	"crypto/x509"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/stack"
)

// APIClient is what a run needs of the cluster's API. *kube.Client implements it.
type APIClient interface {
	Ready(ctx context.Context) error
	Now(ctx context.Context) (time.Time, error)
	ClusterUID(ctx context.Context) (string, error)
	Apply(ctx context.Context, manifests []byte) ([]kube.Change, error)
	Diff(ctx context.Context, manifests []byte) ([]kube.Change, error)
	Nodes(ctx context.Context) (map[string]kube.Node, error)
	EnsureNode(ctx context.Context, name string, want kube.Node, report func(condition string)) error
	Heartbeat(ctx context.Context, node string) (kube.Heartbeat, error)
	Deployment(ctx context.Context, namespace, name string) (kube.Deployment, error)
	RootCAs(ctx context.Context) (map[string]string, error)
	LacksClientCAs(ctx context.Context, client, frontProxy []byte) (fields []string, err error)
	DropClientCAs(ctx context.Context, client, frontProxy []byte) (found bool, err error)
	Workloads(ctx context.Context) ([]kube.Workload, error)
	RolloutAll(ctx context.Context, workloads []kube.Workload, since time.Time, atOnce int, report func(w kube.Workload, what string)) error
	TokenSecrets(ctx context.Context) ([]kube.TokenSecret, error)
	RewriteSecrets(ctx context.Context, report func(what string)) (n int, err error)
}

// EtcdClient is what a run needs of etcd's members. *etcd.Client implements it.
type EtcdClient interface {
	Status(ctx context.Context) ([]etcd.Member, error)
	EncryptionPrefixes(ctx context.Context) (map[string]int, error)
}

// Reach is how a run reaches the running cluster. Network is the real one; tests may have another.
type Reach interface {
	// API and Etcd are reached through the control planes among hosts that may speak for the cluster.
	API(in stack.Input, hosts map[string]host.Host) (APIClient, error)
	Etcd(in stack.Input, hosts map[string]host.Host) (EtcdClient, error)
	// Health queries a host's loopback interface; ask returns nil if the URL answers 200. done
	// closes idle connections.
	Health(h host.Dialer, ca []byte) (ask func(ctx context.Context, url string) error, done func(), err error)
	// PeerCertificate, Admits and AuthenticationOf are like the functions of the same names.
	PeerCertificate(ctx context.Context, h host.Dialer, address, serverName string) (*x509.Certificate, error)
	Admits(ctx context.Context, h host.Dialer, e stack.Endpoint, address string, roots []byte, client certs.Item) (taken bool, how string, err error)
	AuthenticationOf(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) (string, error)
	// EncryptionConfigs returns the hashes of the EncryptionConfigurations that the API server of a
	// control plane uses.
	EncryptionConfigs(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) ([]string, error)
}

// Network reaches the cluster over the connections to its hosts.
type Network struct{}

var _ Reach = Network{}

// API implements Reach.
func (Network) API(in stack.Input, hosts map[string]host.Host) (APIClient, error) {
	return API(in, hosts)
}

// Etcd implements Reach.
func (Network) Etcd(in stack.Input, hosts map[string]host.Host) (EtcdClient, error) {
	return Etcd(in, hosts)
}

// Health implements Reach.
func (Network) Health(h host.Dialer, ca []byte) (ask func(ctx context.Context, url string) error, done func(), err error) {
	client, done, err := HealthClient(h, ca)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, url string) error { return Healthy(ctx, client, url) }, done, nil
}

// PeerCertificate implements Reach.
func (Network) PeerCertificate(ctx context.Context, h host.Dialer, address, serverName string) (*x509.Certificate, error) {
	return PeerCertificate(ctx, h, address, serverName)
}

// Admits implements Reach.
func (Network) Admits(
	ctx context.Context, h host.Dialer, e stack.Endpoint, address string, roots []byte, client certs.Item,
) (taken bool, how string, err error) {
	return Admits(ctx, h, e, address, roots, client)
}

// AuthenticationOf implements Reach.
func (Network) AuthenticationOf(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) (string, error) {
	return AuthenticationOf(ctx, pki, controlPlane)
}

// EncryptionConfigs implements Reach. The answer has megabytes: query it at most every few seconds.
func (Network) EncryptionConfigs(ctx context.Context, pki *certs.PKI, controlPlane host.Dialer) ([]string, error) {
	api, err := kube.New(APIConfig(pki, stack.APIPort, controlPlane))
	if err != nil {
		return nil, err
	}
	return api.EncryptionConfigs(ctx)
}
