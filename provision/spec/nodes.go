package spec

import "fmt"

// Node is one member of a pool.
type Node struct {
	Name   string // "<cluster>-<pool>-<n>"
	Index  int    // n, from 1
	Pool   string
	Role   Role
	Labels map[string]string
	Taints []Taint
}

// Nodes lists every node that the spec asks for, control planes first, then in the order of the pools.
func (c *Cluster) Nodes() []Node { return append(c.nodes(ControlPlane), c.nodes(Worker)...) }

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
				Name: nodeName(c.Metadata.Name, p.Name, n), Index: n,
				Pool: p.Name, Role: p.Role, Labels: p.Labels, Taints: p.Taints,
			})
		}
	}
	return nodes
}

// size is how many nodes the pool has, by either way of saying it.
func (p NodePool) size() int { return max(p.Replicas, len(p.Hosts)) }

func nodeName(cluster, pool string, n int) string { return fmt.Sprintf("%s-%s-%d", cluster, pool, n) }
