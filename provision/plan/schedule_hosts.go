package plan

import (
	"slices"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// What the changes of a host say about it, for its place in the schedule.

// joining reports whether a node is unknown to the API and has no kubelet: no pod can be running on
// it.
func (p *planner) joining(name string) bool {
	has := func(kind Kind, what string) bool {
		return slices.ContainsFunc(p.of[name], func(c Change) bool { return c.Kind == kind && c.Name == what && c.Action == Create })
	}
	return has(NodeChange, name) && has(UnitChange, stack.KubeletService)
}

// quiet reports whether all changes of a host are of files that nothing there reads: nothing stops,
// starts or rereads anything because of them. A host whose node or units are not as desired has
// other changes too; if the API was not queried, its node is unknown, and it is not quiet.
func (p *planner) quiet(name string) bool {
	return p.APIError == "" && p.hasChanges(name) && !slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind != FileChange || c.Action == Delete || !stack.Unread(c.Name)
	})
}

// broken reports whether a node is not Ready, its etcd member is not healthy, or not all units of
// its host run.
func (p *planner) broken(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == NodeChange || c.Kind == MemberChange || c.Kind == UnitChange && c.Action != Restart && c.Action != Delete
	})
}

// brokenFirst compares two nodes by how urgently the others need them repaired: first those whose
// etcd member is out, since no other member may stop before it works, then those that are broken
// otherwise.
func (p *planner) brokenFirst(a, b spec.Machine) int {
	rank := func(name string) int {
		switch {
		case p.memberOut(name):
			return 0
		case p.broken(name):
			return 1
		}
		return 2
	}
	return rank(a.Name) - rank(b.Name)
}

// memberOut reports whether the etcd member on a host is not healthy, or does not run.
func (p *planner) memberOut(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == MemberChange || c.Kind == UnitChange && c.Name == stack.EtcdService && c.Action != Restart && c.Action != Delete
	})
}
