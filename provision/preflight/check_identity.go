package preflight

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
)

// same returns the names of the other nodes with the same value, if it is not empty.
func same(n *Node, s *Situation, value func(*Node) string) []string {
	mine := value(n)
	if mine == "" {
		return nil
	}
	var names []string
	for i := range s.Nodes {
		if other := &s.Nodes[i]; other.Name != n.Name && value(other) == mine {
			names = append(names, other.Name)
		}
	}
	return names
}

// firstOf reports whether a node comes before all of others: of machines with the same identity one may
// keep it.
func firstOf(n *Node, others []string) bool { return n.Name < slices.Min(others) }

const newMachineID = "rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup"

func checkMachineID(n *Node, s *Situation) []Finding {
	if n.Facts.MachineID == "" && n.Facts.Systemd != 0 {
		return found(newMachineID, "/etc/machine-id is missing or empty")
	}
	others := same(n, s, func(n *Node) string { return n.Facts.MachineID })
	if len(others) == 0 || firstOf(n, others) {
		return nil
	}
	return found(newMachineID, "it has the machine ID of %s (a copied disk?)", strings.Join(others, ", "))
}

func checkMAC(n *Node, s *Situation) []Finding {
	mac := func(n *Node) string {
		if m := n.Facts.Links[n.Facts.Interface].MAC; m != "00:00:00:00:00:00" {
			return m
		}
		return ""
	}
	others := same(n, s, mac)
	if len(others) == 0 || firstOf(n, others) {
		return nil
	}
	sum := sha256.Sum256([]byte(n.Name + mac(n)))
	return found(fmt.Sprintf("ip link set dev %s address 02:%02x:%02x:%02x:%02x:%02x", word(n.Facts.Interface), sum[0], sum[1], sum[2], sum[3], sum[4]),
		"its interface %s has the MAC address of %s: %s", n.Facts.Interface, strings.Join(others, ", "), mac(n))
}

func checkHostname(n *Node, s *Situation) []Finding {
	rename := "hostnamectl set-hostname " + n.Name
	if others := same(n, s, func(n *Node) string { return n.Facts.Hostname }); len(others) > 0 && n.Facts.Hostname != n.Name {
		return found(rename, "its host name %s is also that of %s", n.Facts.Hostname, strings.Join(others, ", "))
	}
	for i := range s.Nodes {
		if other := s.Nodes[i].Name; other != n.Name && other == n.Facts.Hostname {
			return found(rename, "its host name is the name of another node, %s", other)
		}
	}
	return nil
}

func checkProduct(n *Node, s *Situation) []Finding {
	others := same(n, s, func(n *Node) string {
		if n.SharedDisk {
			return "" // containers of one computer have its UUID
		}
		return n.Facts.Product
	})
	if len(others) == 0 || firstOf(n, others) {
		return nil
	}
	return found("", "its product_uuid is also that of %s (a copied virtual machine?)", strings.Join(others, ", "))
}

func checkAddress(n *Node, s *Situation) []Finding {
	if others := same(n, s, func(n *Node) string { return n.Address.String() }); len(others) > 0 && n.Address.IsValid() {
		return found("", "its address %s is also that of %s", n.Address, strings.Join(others, ", "))
	}
	if have := n.Facts.Addresses; len(have) > 0 && n.Address.Is4() && !slices.Contains(have, n.Address.String()) {
		have = slices.DeleteFunc(slices.Clone(have), func(a string) bool { return strings.HasPrefix(a, "127.") })
		return found("", "no interface has the node's address %s, at which etcd and the kubelet listen; the machine has %s", n.Address, strings.Join(have, ", "))
	}
	return nil
}

func checkNetworks(n *Node, s *Situation) []Finding {
	var all []Finding
	network := s.Cluster.Spec.Network
	for _, sub := range []struct {
		prefix      netip.Prefix
		field, what string
	}{
		{network.Pods(), "spec.network.podSubnet", "pods"},
		{network.Services(), "spec.network.serviceSubnet", "Services"},
	} {
		for _, text := range n.Facts.Addresses {
			if a, err := netip.ParseAddr(text); err == nil && sub.prefix.IsValid() && sub.prefix.Contains(a) {
				all = append(all, found("", "its address %s is in %s, the network of %s (%s)", a, sub.prefix, sub.what, sub.field)...)
			}
		}
	}
	return all
}

func checkDNS(n *Node, _ *Situation) []Finding {
	local := func(a string) bool { return strings.HasPrefix(a, "127.") || a == "::1" }
	servers := slices.Concat(n.Facts.Nameservers, n.Facts.Upstreams)
	if len(servers) == 0 {
		return found("", "/etc/resolv.conf names no nameserver, so pods cannot resolve names outside the cluster")
	}
	if slices.ContainsFunc(servers, func(a string) bool { return !local(a) }) {
		return nil
	}
	return found("", "its only nameserver is the machine itself (%s), which pods cannot use: CoreDNS would ask itself in a loop, and so resolves only "+
		"names of the cluster; name another server in /etc/resolv.conf", strings.Join(n.Facts.Nameservers, ", "))
}

func checkOwnName(n *Node, _ *Situation) []Finding {
	if !n.Facts.NoOwnName || n.Facts.Hostname == "" {
		return nil
	}
	return found("echo "+host.Quote("127.0.1.1 "+n.Facts.Hostname)+" >>/etc/hosts",
		"it cannot resolve its own host name %s, on which sudo and others wait", n.Facts.Hostname)
}

func checkEndpoint(n *Node, s *Situation) []Finding {
	first := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.ControlPlane() })
	if s.Endpoint == "" || len(s.Names) == 0 || s.Nodes[first].Name != n.Name {
		return nil // once is enough
	}
	name, _, err := net.SplitHostPort(s.Endpoint)
	if err != nil {
		name = s.Endpoint
	}
	if slices.Contains(s.Names, strings.ToLower(name)) {
		return nil
	}
	return found("", "clients reach the API at %s, and its certificate is for %s: add %s to spec.controlPlane.certSANs",
		s.Endpoint, strings.Join(s.Names, ", "), name)
}
