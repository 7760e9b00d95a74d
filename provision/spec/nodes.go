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
func (c *Cluster) Nodes() []Node {
	var nodes []Node
	for _, role := range []Role{ControlPlane, Worker} {
		for _, p := range c.Spec.NodePools {
			if p.Role != role {
				continue
			}
			for n := 1; n <= max(p.Replicas, len(p.Hosts)); n++ {
				nodes = append(nodes, Node{
					Name: fmt.Sprintf("%s-%s-%d", c.Metadata.Name, p.Name, n), Index: n,
					Pool: p.Name, Role: p.Role, Labels: p.Labels, Taints: p.Taints,
				})
			}
		}
	}
	return nodes
}
