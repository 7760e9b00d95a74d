package plan

import (
	"slices"

	"slipway.dev/slipway/provision/spec"
)

// deliverFirst adds the steps that copy programs to the hosts that first brings up, and returns
// their names by host.
func (p *planner) deliverFirst() map[string]string {
	copied := map[string]string{}
	for _, m := range p.Machines {
		if m.Role == spec.ControlPlane || !p.Initialized {
			copied[m.Name] = p.deliver(m.Name)
		}
	}
	return copied
}

// deliver adds the step that copies programs to a host, if it lacks any. It waits for no other
// step, since it disturbs nothing.
func (p *planner) deliver(name string) string {
	if !slices.ContainsFunc(p.of[name], func(c Change) bool { return c.Copy > 0 }) {
		return ""
	}
	return p.add(Deliver, name)
}
