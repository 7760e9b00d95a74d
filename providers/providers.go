// Package providers is where machines come from: one interface, and the choice of an implementation by the spec.
//
// It knows nothing of Kubernetes: a provider hands over machines that answer SSH, with pinned host keys, and
// takes them away again. What runs on them is the business of package provision, which never imports this one.
package providers

import (
	"context"
	"errors"
	"time"

	"slipway.dev/slipway/providers/aws"
	"slipway.dev/slipway/providers/hosts"
	"slipway.dev/slipway/providers/local"
	"slipway.dev/slipway/provision/spec"
)

// Provider makes, finds and removes the machines of one cluster.
//
// The report functions are told what happens to what ("demo-cp-1", "starting"); they are never called
// concurrently and may be nil.
type Provider interface {
	// Ensure makes what is missing and starts what is stopped, and returns when every machine answers SSH.
	// It may be interrupted at any point and called again.
	Ensure(ctx context.Context, report func(name, what string)) (*spec.Infrastructure, error)
	// Find looks and changes nothing. Machines that do not exist are left out.
	Find(ctx context.Context) (*spec.Infrastructure, error)
	// Destroy removes everything that Ensure made, also when half of it is gone already.
	Destroy(ctx context.Context, report func(name, what string)) error
}

// Publisher is a second power of providers that run an API balancer of their own for the operator.
type Publisher interface {
	// Publish points the balancer at the control planes of infra, whose API servers are verified with
	// ca (PEM). It may be called before or after the balancer started, and any number of times.
	Publish(infra *spec.Infrastructure, ca []byte) error
}

// Options are what a provider needs besides the spec.
type Options struct {
	// StateDir is the cluster's own state directory; keys live there.
	StateDir string
	// CacheDir holds what any cluster may share; its directory "bundles" is shown to local machines.
	CacheDir string
	// Slipway is the path of the slipway binary in the bundles, relative to them; it must name the binary's
	// content (a digest in the path), so that a new binary has a new path. Empty: no balancer.
	Slipway string
	// ConnectTimeout is how long a machine may take to answer SSH; 0 is a minute.
	ConnectTimeout time.Duration
}

// Open chooses the provider that the spec names.
func Open(c *spec.Cluster, o Options) (Provider, error) {
	switch p := c.Spec.Provider; {
	case p.Local != nil:
		return local.Open(c, local.Options(o))
	case p.AWS != nil:
		return nil, aws.Unavailable()
	case p.Hosts != nil:
		return nil, hosts.Unavailable()
	}
	return nil, errors.New("spec.provider names no provider; set `provider: {local: {}}`")
}

// OpenNamed opens a cluster whose spec is not at hand, for Find and Destroy. Only local clusters can be found
// by their name alone.
func OpenNamed(cluster string, o Options) (Provider, error) {
	return local.OpenNamed(cluster, local.Options(o))
}
