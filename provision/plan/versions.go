package plan

import (
	"cmp"
	"maps"
	"slices"
)

// removeVersions removes old versions of programs once their host, and the cluster, work with the
// present ones. A host's proofs come later.
func (p *planner) removeVersions() {
	last, usable := map[string]string{}, ""
	for _, s := range p.steps {
		last[s.Host] = s.Name
		if s.Verb == AwaitUsable {
			usable = s.Name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.old)) {
		var deps []string
		if after := cmp.Or(usable, last[name]); after != "" {
			deps = []string{after}
		}
		p.steps = append(p.steps, newStep(RemoveVersions, name, p.old[name], deps))
	}
}
