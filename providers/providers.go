// Package providers is where machines come from: one interface, and the choice of an implementation by the spec.
//
// It knows nothing of Kubernetes: a provider hands over machines that answer SSH, with pinned host keys, and
// takes them away again. What runs on them is the business of package provision, which never imports this one.
package providers

import (
	"context"
	"errors"
	"net/netip"
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
	// Ensure makes those of the machines named that are missing and starts those that are stopped, and returns when they
	// answer SSH. Others are left as they are. It never removes a disk: a machine that is made again gets its own back.
	// A machine that fails (Infrastructure.Failed) does not stop the others. Where something of another cluster is in the way
	// it makes nothing. It may be interrupted at any point and called again.
	Ensure(ctx context.Context, machines []string, report func(name, what string)) (*spec.Infrastructure, error)
	// Find looks and changes nothing. Machines that do not exist are left out.
	Find(ctx context.Context) (*spec.Infrastructure, error)
	// Remove removes machines that the spec does not have, with their disks.
	Remove(ctx context.Context, machines []string, report func(name, what string)) error
	// Destroy removes everything that Ensure made for this cluster, disks included, also when half of it is gone already.
	// What carries its name and belongs to another cluster (Infrastructure.Foreign) stays.
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
	// UID of the cluster, which marks what is made. Empty: only to look, and the keys tell what is the cluster's.
	UID string
	// Claimed says that the UID is only what the spec says: it counts where a machine that carries it has our keys, too.
	Claimed bool
	// Addresses that machines had, by name: nobody else gets them.
	Addresses map[string]netip.Addr
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
