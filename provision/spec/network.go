package spec

import (
	"encoding/binary"
	"net/netip"
)

// Pods is the network of the pods. It is only valid on a spec that was loaded.
func (n Network) Pods() netip.Prefix { return validPrefix(n.PodSubnet) }

// Services is the network of the services' virtual addresses. It is only valid on a spec that was loaded.
func (n Network) Services() netip.Prefix { return validPrefix(n.ServiceSubnet) }

// APIServiceIP is the address of the service "kubernetes": the first of the service subnet, as kube-apiserver takes it.
func (n Network) APIServiceIP() netip.Addr { return nth(n.Services(), 1) }

// DNSServiceIP is the address of the cluster's DNS service: the tenth of the service subnet, as kubeadm has it.
func (n Network) DNSServiceIP() netip.Addr { return nth(n.Services(), 10) }

// Network is the machines' network on this computer. It is only valid on a spec that was loaded.
func (p LocalProvider) Network() netip.Prefix { return validPrefix(p.Subnet) }

// validPrefix parses what validation has passed; the zero Prefix stands for a spec that was never loaded.
func validPrefix(s string) netip.Prefix {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// nth is the network's address with the given offset; the zero Addr when p is no IPv4 network.
func nth(p netip.Prefix, offset uint32) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}
	base := p.Masked().Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(out)
}

// reservedNetworks cannot be a cluster's: RFC 6890, without those set aside for private use and documentation.
var reservedNetworks = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/3"), "multicast and reserved"},
}

const privateNetworks = "a private IPv4 network such as 10.244.0.0/16"

// subnet judges a CIDR and returns it, or false when there is none to go on with.
func (d *document) subnet(path, value string) (netip.Prefix, bool) {
	if value == "" || d.isBad(path) {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		remedy := "write " + privateNetworks
		if addr, err := netip.ParseAddr(value); err == nil && addr.Is4() {
			remedy = "add the length of the prefix, for example " + value + "/16"
		}
		d.judge(path, remedy, "%q is not a network in CIDR notation", value)
		return netip.Prefix{}, false
	}
	switch {
	case !p.Addr().Is4():
		d.judge(path, "write "+privateNetworks, "IPv6 is not supported yet")
		return netip.Prefix{}, false
	case p != p.Masked():
		d.judge(path, "write "+p.Masked().String(), "%s has bits set after its prefix", value)
		return netip.Prefix{}, false
	}
	for _, r := range reservedNetworks {
		if r.prefix.Overlaps(p) {
			d.judge(path, "choose "+privateNetworks, "%s is in %s (%s)", value, r.prefix, r.what)
			return netip.Prefix{}, false
		}
	}
	return p, true
}

// network is a subnet with the name that people know it by.
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
}

// validatePodSubnet holds the subnet against kube-controller-manager's limits: a /24 for each node, and at most 16 bits
// between the two (pkg/controller/nodeipam/ipam/cidrset).
func validatePodSubnet(d *document, p netip.Prefix, nodes int) {
	const path = "spec.network.podSubnet"
	switch {
	case p.Bits() < nodeCIDRLen-16:
		d.judge(path, "choose a /8 or smaller", "/%d is too large: a node's /%d may have 16 bits more at most", p.Bits(), nodeCIDRLen)
	case p.Bits() > nodeCIDRLen:
		d.judge(path, "choose a /16, or at least a /24", "/%d is too small: every node gets a /%d", p.Bits(), nodeCIDRLen)
	case nodes > 1<<(nodeCIDRLen-p.Bits()):
		d.judge(path, "choose a larger subnet, such as a /16 (256 nodes)", "/%d holds %d nodes (a /%d each), and the node pools have %d",
			p.Bits(), 1<<(nodeCIDRLen-p.Bits()), nodeCIDRLen, nodes)
	}
}

// validateMachineSubnet leaves room for the network's own address, the broadcast address, the gateway and the balancer.
func validateMachineSubnet(d *document, p netip.Prefix, nodes int) {
	const path, taken = "spec.provider.local.subnet", 4
	room := 1<<(32-p.Bits()) - taken
	if room < max(nodes, 1) {
		d.judge(path, "choose a larger subnet, such as a /24", "/%d is too small: it has room for %d machines, and the node pools have %d",
			p.Bits(), max(room, 0), nodes)
	}
}

// overlap reports two networks that meet, at the one that was written, the later one if both were.
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
	d.judge(a.path, "choose networks that do not meet", "%s %s overlaps %s %s%s", a.name, a.prefix, b.name, b.prefix, byDefault)
}
