package plan

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Identity distinguishes a cluster from every other one, even of the same name, and records that it
// has been up. The state stores it as JSON.
type Identity struct {
	// UID is made once, before anything else (RFC 9562, version 4). Machines, disks, hosts and the
	// API carry it.
	UID string `json:"uid"`
	// Name of the cluster.
	Name string `json:"name"`
	// SpecFile is the absolute path of the spec that was applied last; empty if it came from the
	// standard input.
	SpecFile string `json:"specFile,omitempty"`
	// Generation is replaced if the cluster is rebuilt without its data (--rebuild-empty); until
	// then it is empty. Hosts and etcd's token carry it, so that members of different generations
	// can never form one cluster.
	Generation string `json:"generation,omitempty"`
	// Rebuilding is the generation of a rebuild that has not been up yet; empty for none. Until it
	// is up, Generation and Up are those of the previous generation, and apply if its disks return.
	Rebuilding string `json:"rebuilding,omitempty"`
	// Older means that an older slipway wrote the state, without a UID: the cluster may have got
	// one since.
	Older bool `json:"-"`
	// Up is nil until the cluster's API has answered for the first time.
	Up *Up `json:"up,omitempty"`
}

// NewGeneration returns the name of a new generation.
func NewGeneration() string { return uuid.NewString() }

// Recorded returns the identity once a cluster of this generation is known to be up; records of
// another generation are dropped. If there is nothing to record (nil), the identity does not
// change.
func (id Identity) Recorded(generation string, change func(was *Up) *Up) Identity {
	was := id.Up
	if id.Generation != generation {
		was = nil
	}
	if up := change(was); up != nil {
		id.Up, id.Generation, id.Rebuilding = up, generation, ""
	}
	return id
}

// Equal compares two identities.
func (id Identity) Equal(other Identity) bool {
	up := id.Up.Equal(other.Up)
	id.Up, other.Up = nil, nil
	return up && id == other
}

// Up is what a cluster that has been up must not lose or change silently: the existence of data,
// the machines that hold it, and the networks in its certificates, Services and pods.
type Up struct {
	Since time.Time `json:"since,omitzero"`
	// EtcdCluster is etcd's own ID of the cluster, in hex; empty if unknown.
	EtcdCluster string `json:"etcdCluster,omitempty"`
	// ControlPlanes are the machines of the etcd members, by name.
	ControlPlanes map[string]UpMember `json:"controlPlanes"`
	PodSubnet     string              `json:"podSubnet"`
	ServiceSubnet string              `json:"serviceSubnet"`
	DNSDomain     string              `json:"dnsDomain"`
	// Plugin is the network plugin that all nodes have; empty if an older slipway has not recorded it.
	Plugin string `json:"plugin,omitempty"`
}

// UpMember is a control plane of a cluster that has been up.
type UpMember struct {
	Address netip.Addr `json:"address"`
	// Joined means that its etcd member has been healthy: it must not start again without its data.
	Joined bool `json:"joined,omitempty"`
}

// NewIdentity makes the identity of a cluster that has not been up.
func NewIdentity(name string) Identity { return Identity{UID: uuid.NewString(), Name: name} }

// Addresses returns the addresses of the control planes, by name.
func (u *Up) Addresses() map[string]netip.Addr {
	addresses := map[string]netip.Addr{}
	for name, m := range u.ControlPlanes {
		addresses[name] = m.Address
	}
	return addresses
}

// Equal compares two records; nil is the empty record.
func (u *Up) Equal(other *Up) bool {
	if u == nil || other == nil {
		return u == other
	}
	return u.Since.Equal(other.Since) && u.EtcdCluster == other.EtcdCluster && maps.Equal(u.ControlPlanes, other.ControlPlanes) &&
		u.PodSubnet == other.PodSubnet && u.ServiceSubnet == other.ServiceSubnet && u.DNSDomain == other.DNSDomain && u.Plugin == other.Plugin
}

// ReadIdentity parses the identity that the state stores.
func ReadIdentity(text []byte) (Identity, error) {
	var id Identity
	if err := json.Unmarshal(text, &id); err != nil {
		return Identity{}, fmt.Errorf("the cluster's identity is damaged: %w; restore the state from a backup", err)
	}
	if uuid.Validate(id.UID) != nil {
		return Identity{}, errors.New("the cluster's identity is damaged: it has no UID; restore the state from a backup")
	}
	return id, nil
}

// newUp records a spec as that of a cluster that is up.
func newUp(c *spec.Cluster) *Up {
	n := c.Spec.Network
	return &Up{ControlPlanes: map[string]UpMember{}, PodSubnet: n.PodSubnet, ServiceSubnet: n.ServiceSubnet, DNSDomain: n.DNSDomain, Plugin: n.Plugin}
}

// Joined records etcd members, by name, and whether they have been healthy. It changes a copy; if
// the state does not record the cluster as up (nil), it creates the record, with all control
// planes.
func (u *Up) Joined(in stack.Input, now time.Time, etcdCluster string, members map[string]bool) *Up {
	up := newUp(in.Cluster)
	if u == nil {
		for _, m := range in.ControlPlanes() {
			up.ControlPlanes[m.Name] = UpMember{Address: m.Address}
		}
	} else {
		*up = *u
		up.ControlPlanes, up.Plugin = maps.Clone(u.ControlPlanes), cmp.Or(u.Plugin, in.Cluster.Spec.Network.Plugin)
	}
	if up.Since.IsZero() {
		up.Since = now.UTC().Truncate(time.Second)
	}
	up.EtcdCluster = cmp.Or(etcdCluster, up.EtcdCluster)
	for _, m := range in.ControlPlanes() {
		if healthy, ok := members[m.Name]; ok {
			up.ControlPlanes[m.Name] = UpMember{Address: m.Address, Joined: healthy || up.ControlPlanes[m.Name].Joined}
		}
	}
	return up
}

// Up is the record of a cluster that an older slipway applied completely; nil if it cannot be read.
func (a *Applied) Up() *Up {
	if a == nil {
		return nil
	}
	c, err := spec.Parse("applied", a.Spec)
	if err != nil {
		return nil // another version's; the hosts show the rest
	}
	up := newUp(c)
	for _, m := range a.Machines {
		if m.Role == spec.ControlPlane {
			up.ControlPlanes[m.Name] = UpMember{Address: m.Address, Joined: true}
		}
	}
	return up
}

// moved names the fields of the spec that a cluster which has been up cannot change, or only if
// that is allowed.
func (u *Up) moved(c *spec.Cluster, allowPlugin bool) []string {
	now := c.Spec.Network
	var reasons []string
	if !allowPlugin {
		reasons = u.refusePlugin(c)
	}
	for _, f := range []struct{ field, was, is string }{
		{"podSubnet", u.PodSubnet, now.PodSubnet}, {"serviceSubnet", u.ServiceSubnet, now.ServiceSubnet}, {"dnsDomain", u.DNSDomain, now.DNSDomain},
	} {
		if f.was != f.is {
			reasons = append(reasons, fmt.Sprintf("spec.network.%s was %s and is %s: a cluster that has been up cannot change it; put it back", f.field, f.was, f.is))
		}
	}
	return reasons
}
