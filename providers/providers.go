// Package providers makes machines: it has one interface, and chooses the implementation from the
// spec.
//
// It does not know Kubernetes: a provider returns machines that answer SSH, with pinned host keys,
// and removes them. Package provision, which never imports this one, installs what runs on them.
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
// The report functions are told what happens to what ("demo-cp-1", "starting"); they are never
// called concurrently and may be nil.
type Provider interface {
	// Ensure makes the named machines that are missing, starts those that are stopped, and returns
	// when they answer SSH. It does not change others. It never removes a disk: a recreated machine
	// uses its old disk. A machine that fails (Infrastructure.Failed) does not stop the others. If
	// an object of another cluster conflicts, it makes nothing. It may be interrupted at any point
	// and called again.
	Ensure(ctx context.Context, machines []string, report func(name, what string)) (*spec.Infrastructure, error)
	// Find looks and changes nothing. Machines that do not exist are left out.
	Find(ctx context.Context) (*spec.Infrastructure, error)
	// Plan returns what Ensure would create or change besides machines and their disks. It changes
	// nothing.
	Plan(ctx context.Context, machines []string) ([]spec.ResourceChange, error)
	// Remove removes machines that the spec does not have, with their disks.
	Remove(ctx context.Context, machines []string, report func(name, what string)) error
	// Destroy removes everything that Ensure made for this cluster, disks included, also when half
	// of it is gone already. What carries its name and belongs to another cluster
	// (Infrastructure.Foreign) stays.
	Destroy(ctx context.Context, report func(name, what string)) error
}

// Keeper is an optional interface of providers whose machines are the user's.
type Keeper interface {
	// Kept is why machines are never removed.
	Kept() error
}

// Options has what a provider needs besides the spec.
type Options struct {
	// StateDir is the cluster's own state directory; keys live there.
	StateDir string
	// CacheDir has files that clusters share; its directory "bundles" is mounted into local
	// machines.
	CacheDir string
	// Slipway is the path of the slipway binary in the bundles, relative to them; it must name the
	// binary's content (a digest in the path), so that a new binary has a new path. Empty: no
	// balancer.
	Slipway string
	// ConnectTimeout is how long a machine may take to answer SSH; 0 means a minute.
	ConnectTimeout time.Duration
	// UID of the cluster, which labels its objects. It may be empty only for reading; then the keys
	// identify the cluster's objects.
	UID string
	// Claimed means that the UID comes from the spec: it is accepted only if a machine with it also
	// has our keys.
	Claimed bool
	// Addresses that control planes of a cluster that has been up have, by name: they are not given
	// to others.
	Addresses map[string]netip.Addr
	// Hosts is for the hosts provider; its Addresses are those above.
	Hosts hosts.Options
}

// Resolver is an optional interface of providers whose machines know what the spec leaves out.
type Resolver interface {
	// Resolve asks the machines, and completes the spec. It has to precede all other methods.
	Resolve(ctx context.Context) error
}

// Open chooses the provider that the spec names.
func Open(c *spec.Cluster, o Options) (Provider, error) {
	switch p := c.Spec.Provider; {
	case p.Local != nil:
		return local.Open(c, local.Options{
			StateDir: o.StateDir, CacheDir: o.CacheDir, Slipway: o.Slipway, ConnectTimeout: o.ConnectTimeout,
			UID: o.UID, Claimed: o.Claimed, Addresses: o.Addresses,
		})
	case p.AWS != nil:
		return nil, aws.Unavailable()
	case p.Hosts != nil:
		o.Hosts.Addresses = o.Addresses
		return hosts.Open(c, o.Hosts)
	}
	return nil, errors.New("spec.provider names no provider; set `provider: {local: {}}`")
}
