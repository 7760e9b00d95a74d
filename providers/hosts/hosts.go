// Package hosts uses machines that exist. It creates and removes none: it works out how each is
// entered, from the spec and ssh_config, and asks machines for what the spec leaves out of their
// names and addresses.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/providers/hosts/sshconfig"
	"slipway.dev/slipway/provision/spec"
)

// apiPort is where API servers listen.
const apiPort = 6443

// Options is what the provider needs besides the spec.
type Options struct {
	// SSHConfig has the user's ssh_config files. The spec can name another one.
	SSHConfig sshconfig.Files
	// Path makes a path of the spec absolute.
	Path func(string) (string, error)
	// Known is what the state records.
	Known spec.KnownHosts
	// Addresses are those of the control planes of a cluster that has been up, by name; nil for
	// others.
	Addresses map[string]netip.Addr
	// Trusted returns the host keys that were accepted on first use in this run, as KnownHosts has
	// them; nil for none.
	Trusted func() map[string]string
	// Introduce connects to machines, in parallel, and asks them who they are. The maps are by
	// Machine.Name.
	Introduce func(ctx context.Context, machines []spec.Machine) (map[string]spec.Self, map[string]error)
}

// Hosts is one cluster's machines.
type Hosts struct {
	cluster *spec.Cluster
	o       Options
	// failed has, by the key of a host, why it cannot be used.
	failed map[string]error
	notes  []string
	// What was read is remembered: many machines have the same bastions and keys, and are described
	// several times in a run.
	files   map[string]identityFile
	lookups map[[2]string]lookup // by host and user
}

// Open prepares the machines of c. It connects to none. Names and addresses that the state records
// are completed in c.
func Open(c *spec.Cluster, o Options) (*Hosts, error) {
	config := &o.SSHConfig
	switch file := c.Spec.Provider.Hosts.SSHConfig; file {
	case "":
	case spec.None:
		config.User, config.System = "", ""
	default:
		path, err := o.Path(file)
		if err != nil {
			return nil, fmt.Errorf("spec.provider.hosts.sshConfig: %w", err)
		}
		config.User, config.System = path, ""
	}
	p := &Hosts{cluster: c, o: o, failed: map[string]error{}, files: map[string]identityFile{}, lookups: map[[2]string]lookup{}}
	p.each(func(_ *spec.NodePool, h *spec.PoolHost) {
		known := o.Known.Hosts[h.Key()]
		if h.Name == "" {
			h.Name = known.Name
		}
		if h.PrivateAddress == "" && known.Address.IsValid() {
			h.PrivateAddress = known.Address.String()
		}
	})
	return p, nil
}

// each calls f for every host of the spec.
func (p *Hosts) each(f func(pool *spec.NodePool, h *spec.PoolHost)) {
	pools := p.cluster.Spec.NodePools
	for i := range pools {
		for j := range pools[i].Hosts {
			f(&pools[i], &pools[i].Hosts[j])
		}
	}
}

// Resolve asks the machines whose name or private address neither the spec nor the state has, and
// completes the spec. A machine that does not answer does not stop the others: it is in
// Infrastructure.Failed. The error is about the spec as a whole, such as two machines with the same
// name.
func (p *Hosts) Resolve(ctx context.Context) error {
	var ask []spec.Machine
	names, addresses := p.taken()
	hosts := map[string]*spec.PoolHost{} // by address and port, which name a machine that has no name yet
	p.each(func(pool *spec.NodePool, h *spec.PoolHost) {
		if h.Name != "" && h.PrivateAddress != "" {
			return
		}
		m, err := p.machine(pool, h)
		if err != nil {
			p.failed[h.Key()] = err
			return
		}
		m.Name = h.Key()
		if h.Name != "" {
			m.Name = h.Name
		}
		ask, hosts[m.Name] = append(ask, m), h
	})
	if len(ask) > 0 {
		selves, failed := p.o.Introduce(ctx, ask)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for name, h := range hosts {
			if err := failed[name]; err != nil {
				p.failed[h.Key()] = err
				continue
			}
			if err := p.complete(h, selves[name], names, addresses); err != nil {
				p.failed[h.Key()] = err
			}
		}
	}
	return p.check()
}

// taken are the names and addresses that machines have by the spec or the state, with the machine.
func (p *Hosts) taken() (names, addresses map[string]string) {
	names, addresses = map[string]string{}, map[string]string{}
	p.each(func(_ *spec.NodePool, h *spec.PoolHost) {
		names[h.Name], addresses[h.PrivateAddress] = h.Key(), h.Key()
	})
	return names, addresses
}

// complete takes over what a machine says of itself. A machine that says what another one has is not
// used, and does not stop the others.
func (p *Hosts) complete(h *spec.PoolHost, self spec.Self, names, addresses map[string]string) error {
	completed := *h
	if h.PrivateAddress == "" {
		address, err := choose(self.Addresses, h.Address, p.cluster)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Key(), err)
		}
		if other, ok := addresses[address.String()]; ok {
			return fmt.Errorf("%s: the machine has the address %s, which is that of %s: one machine may be listed twice; otherwise set `privateAddress`",
				h.Key(), address, other)
		}
		completed.PrivateAddress = address.String()
	}
	if h.Name == "" {
		if err := checkName(self.HostName); err != nil {
			return fmt.Errorf("%s: %w", h.Key(), err)
		}
		if other, ok := names[self.HostName]; ok {
			return fmt.Errorf("%s: the machine's own name is %s, which is that of %s: set `name` in the spec, or its host name", h.Key(), self.HostName, other)
		}
		completed.Name = self.HostName
	}
	*h = completed
	return nil
}

// check refuses machines that cannot be told apart, and nodes that would change their name or, as
// control planes, their address.
func (p *Hosts) check() error {
	names, addresses := map[string]string{}, map[string]string{}
	var errs []error
	for _, pool := range p.cluster.Spec.NodePools {
		for _, h := range pool.Hosts {
			if first, ok := names[h.Name]; ok && h.Name != "" {
				errs = append(errs, fmt.Errorf("the machines %s and %s both have the name %s: set `name` of one of them in the spec", first, h.Key(), h.Name))
			}
			if first, ok := addresses[h.PrivateAddress]; ok && h.PrivateAddress != "" {
				errs = append(errs, fmt.Errorf("the machines %s and %s both have the address %s: one machine may be listed twice; otherwise set `privateAddress`",
					first, h.Key(), h.PrivateAddress))
			}
			names[h.Name], addresses[h.PrivateAddress] = h.Key(), h.Key()
			if was := p.o.Known.Hosts[h.Key()].Name; p.o.Addresses != nil && was != "" && h.Name != was {
				errs = append(errs, fmt.Errorf("the machine %s is the node %s, and the spec names it %s: nodes cannot be renamed; put the name back",
					h.Key(), was, h.Name))
			}
			if was, ok := p.o.Addresses[h.Name]; ok && h.PrivateAddress != "" && h.PrivateAddress != was.String() {
				errs = append(errs, fmt.Errorf("control plane %s has the address %s, and the spec says %s: changing it is not available yet; put it back",
					h.Name, was, h.PrivateAddress))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nNothing was changed", err)
	}
	return nil
}

// Record returns what the state has to know of the machines from now on.
func (p *Hosts) Record() spec.KnownHosts {
	known := spec.KnownHosts{Hosts: maps.Clone(p.o.Known.Hosts), HostKeys: maps.Clone(p.o.Known.HostKeys)}
	if known.Hosts == nil {
		known.Hosts = map[string]spec.KnownHost{}
	}
	if p.o.Trusted != nil {
		if known.HostKeys == nil {
			known.HostKeys = map[string]string{}
		}
		maps.Copy(known.HostKeys, p.o.Trusted())
	}
	p.each(func(_ *spec.NodePool, h *spec.PoolHost) {
		if address, err := netip.ParseAddr(h.PrivateAddress); err == nil && h.Name != "" {
			known.Hosts[h.Key()] = spec.KnownHost{Name: h.Name, Address: address}
		}
	})
	return known
}

// Notes are remarks about the user's ssh_config.
func (p *Hosts) Notes() []string { return p.notes }

// Find returns the machines, without connecting to them.
func (p *Hosts) Find(context.Context) (*spec.Infrastructure, error) {
	infra := &spec.Infrastructure{States: map[string]string{}, Disks: map[string]string{}, Failed: map[string]error{}}
	nodes := map[spec.Role][]spec.Machine{}
	for i := range p.cluster.Spec.NodePools {
		pool := &p.cluster.Spec.NodePools[i]
		for j := range pool.Hosts {
			h := &pool.Hosts[j]
			name := pool.NodeName(p.cluster.Metadata.Name, j+1)
			m, err := p.machine(pool, h)
			if err == nil {
				err = p.failed[h.Key()]
			}
			m.Name, infra.States[name] = name, spec.MachineRunning
			if err != nil {
				infra.Failed[name] = err
			}
			if m.Address.IsValid() {
				nodes[pool.Role] = append(nodes[pool.Role], m)
			} else if err == nil {
				infra.Failed[name] = fmt.Errorf("%s: its address is unknown: it has not been asked yet", h.Key())
			}
		}
	}
	infra.Machines = slices.Concat(nodes[spec.ControlPlane], nodes[spec.Worker])
	p.endpoint(infra)
	return infra, nil
}

// endpoint is that of the first control plane. The certificate of the API has the addresses of all of
// them in the spec, since clients outside the cluster may reach them there.
func (p *Hosts) endpoint(infra *spec.Infrastructure) {
	for _, pool := range p.cluster.Spec.NodePools {
		if pool.Role != spec.ControlPlane {
			continue
		}
		for _, h := range pool.Hosts {
			address := strings.ToLower(h.Address)
			if infra.Endpoint == "" {
				infra.Endpoint = net.JoinHostPort(address, strconv.Itoa(apiPort))
			}
			if address != h.PrivateAddress && !slices.Contains(infra.ExtraSANs, address) {
				infra.ExtraSANs = append(infra.ExtraSANs, address)
			}
		}
	}
}

// Ensure returns the machines: they exist.
func (p *Hosts) Ensure(ctx context.Context, _ []string, _ func(name, what string)) (*spec.Infrastructure, error) {
	return p.Find(ctx)
}

// Plan returns nothing: there is nothing to create.
func (p *Hosts) Plan(context.Context, []string) ([]spec.ResourceChange, error) { return nil, nil }

// errNotOurs is why machines are not removed.
var errNotOurs = errors.New("the machines of the hosts provider are yours: slipway does not remove them, and resetting them is not " +
	"available yet; nothing was changed")

// Remove refuses.
func (p *Hosts) Remove(context.Context, []string, func(name, what string)) error { return errNotOurs }

// Destroy refuses.
func (p *Hosts) Destroy(context.Context, func(name, what string)) error { return errNotOurs }

// Kept is why the machines are never removed.
func (p *Hosts) Kept() error { return errNotOurs }
