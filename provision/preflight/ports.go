package preflight

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Protocols of ports.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Side is who begins a connection, or whom it reaches.
type Side string

// The sides of a way through the network.
const (
	ControlPlanes Side = "control planes"
	AllNodes      Side = "all nodes"
	Operator      Side = "operator"
	Clients       Side = "clients"
)

// Port is a way that a firewall has to leave open; what is not in Ports may be closed.
type Port struct {
	Protocol string
	// First and Last are the range of ports, the same for one.
	First, Last int
	From, To    Side
	// For says what it is for.
	For string
	// When narrows it to some clusters, in words and as a function; nil is all.
	When   string
	Needed func(*spec.Cluster) bool
	// Optional ways are not tried: whether they are wanted is not in the spec.
	Optional bool
}

// Ports is every way between machines, and to them. docs/ports.md has the same rows; a test compares
// them. Answers to these connections have to pass, and ICMP of the type "fragmentation needed".
var Ports = []Port{
	{
		Protocol: TCP, First: 22, Last: 22, From: Operator, To: AllNodes,
		For: "SSH, the only way in which slipway reaches a machine (or the port in the spec)", When: "not tried by preflight", Optional: true,
	},
	{Protocol: TCP, First: stack.APIPort, Last: stack.APIPort, From: AllNodes, To: ControlPlanes, For: "the API, from each node's balancer"},
	{Protocol: TCP, First: etcdPeerPort, Last: etcdPeerPort, From: ControlPlanes, To: ControlPlanes, For: "etcd, between its members"},
	{Protocol: TCP, First: kubeletPort, Last: kubeletPort, From: ControlPlanes, To: AllNodes, For: "the kubelet: logs, exec, port-forward, metrics"},
	{
		Protocol: UDP, First: vxlanPort, Last: vxlanPort, From: AllNodes, To: AllNodes, For: "the pod network (VXLAN)",
		When: "plugin: flannel, flannelBackend: vxlan", Needed: vxlan,
	},
	{
		Protocol: TCP, First: stack.DeliveryPort, Last: stack.DeliveryPort, From: AllNodes, To: AllNodes,
		For: "copies of programs, while apply runs; without it, all come from your computer", Optional: true,
	},
	{
		Protocol: TCP, First: stack.APIPort, Last: stack.APIPort, From: Clients, To: ControlPlanes,
		For: "kubectl, or the load balancer before the API", Optional: true,
	},
	{
		Protocol: TCP, First: nodePortFirst, Last: nodePortLast, From: Clients, To: AllNodes,
		For: "Services of the type NodePort, UDP also", Optional: true,
	},
}

// The ports that package stack does not export, which a test compares.
const (
	etcdPeerPort  = 2380
	kubeletPort   = 10250
	vxlanPort     = 8472 // flannel's, that of Linux; not IANA's 4789
	nodePortFirst = 30000
	nodePortLast  = 32767
)

func vxlan(c *spec.Cluster) bool {
	return c.Spec.Network.Plugin == "flannel" && c.Spec.Network.FlannelBackend == "vxlan"
}

// localPorts are those on the loopback interface that components take.
var localPorts = []struct {
	port         int
	controlPlane bool
	what         string
}{
	{stack.EtcdClientPort, true, "etcd"},
	{2381, true, "etcd's metrics"},
	{10257, true, "kube-controller-manager"},
	{10259, true, "kube-scheduler"},
	{stack.BalancerPort, false, "slipway's balancer"},
	{10248, false, "the kubelet's health"},
	{10249, false, "kube-proxy's metrics"},
	{10256, false, "kube-proxy's health"},
}

// includes reports whether a node is on a side.
func (s Side) includes(role spec.Role) bool {
	return s == AllNodes || s == ControlPlanes && role == spec.ControlPlane
}

// between returns the ways that have to be open from a node to another one.
func between(c *spec.Cluster, from, to spec.Role) []Port {
	var ports []Port
	for _, p := range Ports {
		if !p.Optional && p.in(c) && p.From.includes(from) && p.To.includes(to) {
			ports = append(ports, p)
		}
	}
	return ports
}

// serves returns the ports on which other nodes reach a node.
func serves(c *spec.Cluster, role spec.Role) []Port {
	var ports []Port
	for _, p := range Ports {
		if !p.Optional && p.in(c) && p.To.includes(role) {
			ports = append(ports, p)
		}
	}
	return ports
}

func (p Port) in(c *spec.Cluster) bool { return p.Needed == nil || p.Needed(c) }

// Number is the port, or "first-last".
func (p Port) Number() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// use is a port that a component takes, and what for.
type use struct {
	protocol, what string
	port           int
}

// uses returns the ports that components take on a node.
func uses(c *spec.Cluster, role spec.Role) []use {
	var all []use
	for _, p := range serves(c, role) {
		all = append(all, use{p.Protocol, strings.TrimSuffix(p.For, ", from each node's balancer"), p.First})
	}
	for _, l := range localPorts {
		if !l.controlPlane || role == spec.ControlPlane {
			all = append(all, use{TCP, l.what, l.port})
		}
	}
	slices.SortFunc(all, func(a, b use) int { return a.port - b.port })
	return all
}
