package spec

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Pods is the network of the pods. It is only valid on a spec that was loaded.
func (n Network) Pods() netip.Prefix { return validPrefix(n.PodSubnet) }

// Services is the network of the services' virtual addresses. It is only valid on a spec that was
// loaded.
func (n Network) Services() netip.Prefix { return validPrefix(n.ServiceSubnet) }

// APIServiceIP is the address of the service "kubernetes": the first of the service subnet, as
// kube-apiserver defines it.
func (n Network) APIServiceIP() netip.Addr { return nth(n.Services(), 1) }

// DNSServiceIP is the address of the cluster's DNS service: the tenth of the service subnet, as in
// kubeadm.
func (n Network) DNSServiceIP() netip.Addr { return nth(n.Services(), 10) }

// Network is the machines' network on this computer. It is only valid on a spec that was loaded.
func (p LocalProvider) Network() netip.Prefix { return validPrefix(p.Subnet) }

// validPrefix parses a validated CIDR. It returns the zero Prefix for a spec that was not loaded.
func validPrefix(s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// nth returns the network's address at the given offset, or the zero Addr if p is not an IPv4
// network.
func nth(p netip.Prefix, offset uint32) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	base := p.Masked().Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(out)
}

// reservedNetworks cannot be used by a cluster: RFC 6890, without the networks for private use and
// documentation.
var reservedNetworks = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast and reserved"},
}

// privateNetwork names the default of a field as an example: other networks could overlap it.
func privateNetwork(path string) string {
	return "a private IPv4 network such as " + map[string]string{
		"spec.network.podSubnet": "10.244.0.0/16", "spec.network.serviceSubnet": "10.96.0.0/12", "spec.provider.local.subnet": "10.89.0.0/24",
	}[path]
}

// subnet validates a CIDR and returns it, or false if it is not usable.
func (d *document) subnet(path, value string) (netip.Prefix, bool) {
	if value == "" || d.isBad(path) {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		remedy := "write " + privateNetwork(path)
		if addr, err := netip.ParseAddr(value); err == nil && addr.Is4() {
			remedy = "add the prefix length, for example " + value + "/16"
		}
		d.judge(path, remedy, "%q is not a network in CIDR notation", value)
		return netip.Prefix{}, false
	}
	switch {
	case !p.Addr().Is4():
		d.judge(path, "write "+privateNetwork(path), "IPv6 is not supported yet")
		return netip.Prefix{}, false
	case p != p.Masked():
		d.judge(path, "write "+p.Masked().String(), "%s has bits set after its prefix", value)
		return netip.Prefix{}, false
	}
	for _, r := range reservedNetworks {
		if r.prefix.Overlaps(p) {
			d.judge(path, "choose "+privateNetwork(path), "%s is in %s (%s)", value, r.prefix, r.what)
			return netip.Prefix{}, false
		}
	}
	return p, true
}

// network is a subnet with its path and its name in messages.
type network struct {
	path, name string
	prefix     netip.Prefix
}

func validateNetworks(d *document, c *Cluster) {
	nodes := nodeCount(c)
	var found []network
	if p, ok := d.subnet("spec.network.podSubnet", c.Spec.Network.PodSubnet); ok {
		found = append(found, network{"spec.network.podSubnet", "the pod subnet", p})
		validatePodSubnet(d, p, nodes)
	}
	if p, ok := d.subnet("spec.network.serviceSubnet", c.Spec.Network.ServiceSubnet); ok {
		found = append(found, network{"spec.network.serviceSubnet", "the service subnet", p})
		if p.Bits() < 12 || p.Bits() > 24 {
			d.judge("spec.network.serviceSubnet", "choose a /12 to /24, such as 10.96.0.0/12", "/%d is not between /12 and /24", p.Bits())
		}
	}
	if local := c.Spec.Provider.Local; local != nil {
		if p, ok := d.subnet("spec.provider.local.subnet", local.Subnet); ok {
			found = append(found, network{"spec.provider.local.subnet", "the machines' subnet", p})
			validateMachineSubnet(d, p, nodes)
		}
	}
	for i, a := range found {
		for _, b := range found[:i] {
			d.overlap(a, b)
		}
	}
	for i, p := range c.Spec.NodePools {
		for j, h := range p.Hosts {
			at := fmt.Sprintf("%s.hosts[%d]", poolPath(i), j)
			d.outside(at+".address", h.Address, found)
			d.outside(at+".privateAddress", h.PrivateAddress, found)
		}
	}
}

// outside checks that the address of a machine is in none of the cluster's networks.
func (d *document) outside(path, address string, networks []network) {
	addr, err := netip.ParseAddr(address)
	if err != nil || d.isBad(path) {
		return
	}
	for _, n := range networks {
		if n.prefix.Contains(addr) {
			d.judge(path, "choose another "+strings.TrimPrefix(n.name, "the ")+", with "+n.path, "%s is in %s %s", address, n.name, n.prefix)
		}
	}
}

// validatePodSubnet checks the subnet against kube-controller-manager's limits: a /24 for each
// node, whose prefix is at most 16 bits longer than the subnet's
// (pkg/controller/nodeipam/ipam/cidrset).
func validatePodSubnet(d *document, p netip.Prefix, nodes int) {
	const path = "spec.network.podSubnet"
	switch {
	case p.Bits() < nodeCIDRLen-16:
		d.judge(path, "choose a /8 or smaller", "/%d is too large: a node's /%d may have at most 16 bits more", p.Bits(), nodeCIDRLen)
	case p.Bits() > nodeCIDRLen:
		d.judge(path, "choose a /16, or at least a /24", "/%d is too small: every node gets a /%d", p.Bits(), nodeCIDRLen)
	case nodes > 1<<(nodeCIDRLen-p.Bits()):
		d.judge(path, "choose a larger subnet, such as a /16 (256 nodes)", "/%d holds %d nodes (a /%d each), and the node pools have %d",
			p.Bits(), 1<<(nodeCIDRLen-p.Bits()), nodeCIDRLen, nodes)
	}
}

// validateMachineSubnet leaves room for the network's own address, the broadcast address, the
// gateway and the balancer.
func validateMachineSubnet(d *document, p netip.Prefix, nodes int) {
	const path, taken = "spec.provider.local.subnet", 4
	room := 1<<(32-p.Bits()) - taken
	if room < max(nodes, 1) {
		d.judge(path, "choose a larger subnet, such as a /24", "/%d is too small: it has room for %d machines, and the node pools have %d",
			p.Bits(), max(room, 0), nodes)
	}
}

// overlap reports two networks that overlap. The mistake is reported at the network that the file
// has, or at the later one if it has both.
func (d *document) overlap(a, b network) {
	if !a.prefix.Overlaps(b.prefix) {
		return
	}
	if at, other := d.at(a.path), d.at(b.path); !d.present(a.path) || d.present(b.path) && other.after(at) {
		a, b = b, a
	}
	byDefault := ""
	if !d.present(b.path) {
		byDefault = ", its default"
	}
	d.judge(a.path, "choose networks that do not overlap", "%s %s overlaps %s %s%s", a.name, a.prefix, b.name, b.prefix, byDefault)
}
