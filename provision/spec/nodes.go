package spec

import (
	"cmp"
	"fmt"
	"regexp"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Node is a node of a pool.
type Node struct {
	Name   string // "<cluster>-<pool>-<n>", or a host's own
	Index  int    // n, from 1
	Pool   string
	Role   Role
	Labels map[string]string
	Taints []Taint
	// ProxyMode is how kube-proxy implements services on the node.
	ProxyMode string
}

// Nodes lists every node in the spec, control planes first, otherwise in the order of the pools.
func (c *Cluster) Nodes() []Node { return append(c.nodes(ControlPlane), c.nodes(Worker)...) }

// NodeNames lists the names of Nodes.
func (c *Cluster) NodeNames() (names []string) {
	for _, n := range c.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// ControlPlanes lists the nodes that run the control plane, in the order of the pools.
func (c *Cluster) ControlPlanes() []Node { return c.nodes(ControlPlane) }

func (c *Cluster) nodes(role Role) []Node {
	var nodes []Node
	for _, p := range c.Spec.NodePools {
		if p.Role != role {
			continue
		}
		for n := 1; n <= p.size(); n++ {
			nodes = append(nodes, Node{
				Name: p.NodeName(c.Metadata.Name, n), Index: n,
				Pool: p.Name, Role: p.Role, Labels: p.Labels, Taints: p.Taints,
				ProxyMode: c.ProxyMode(p.Name),
			})
		}
	}
	return nodes
}

// maxUnavailable is a number from 1, or a percentage from 1 to 100.
var maxUnavailable = regexp.MustCompile(`^([1-9][0-9]{0,3}|([1-9][0-9]?|100)%)$`)

// defaultMaxUnavailable is the default of Deployments (apps/v1).
const defaultMaxUnavailable = "25%"

// MaxUnavailable returns, by pool name, how many nodes of each pool of workers may be disrupted at
// the same time: at least one, at most the size of the pool. Percentages are rounded down, as in
// Deployments.
func (c *Cluster) MaxUnavailable() map[string]int {
	most := map[string]int{}
	for _, p := range c.Spec.NodePools {
		if p.Role != Worker {
			continue
		}
		wish := intstr.Parse(p.RollingUpdate.MaxUnavailable)
		if p.RollingUpdate.MaxUnavailable == "" {
			wish = intstr.Parse(defaultMaxUnavailable)
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(&wish, p.size(), false)
		if err != nil {
			n = 1 // validation only passes numbers and percentages
		}
		most[p.Name] = min(max(n, 1), max(p.size(), 1))
	}
	return most
}

// size returns the number of nodes in the pool, from replicas or hosts.
func (p NodePool) size() int { return max(p.Replicas, len(p.Hosts)) }

// NodeName returns the name of the n-th node, from 1. A host's own name is unknown before it was asked; until
// then it has the name that it would have as a machine of another provider.
func (p NodePool) NodeName(cluster string, n int) string {
	if n <= len(p.Hosts) && p.Hosts[n-1].Name != "" {
		return p.Hosts[n-1].Name
	}
	return nodeName(cluster, p.Name, n)
}

func nodeName(cluster, pool string, n int) string { return fmt.Sprintf("%s-%s-%d", cluster, pool, n) }

// ProxyMode is how kube-proxy implements services on the nodes of a pool: as the pool has it, or the
// network.
func (c *Cluster) ProxyMode(pool string) string {
	for _, p := range c.Spec.NodePools {
		if p.Name == pool {
			return cmp.Or(p.ProxyMode, c.Spec.Network.ProxyMode)
		}
	}
	return c.Spec.Network.ProxyMode
}
