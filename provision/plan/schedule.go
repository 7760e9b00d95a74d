package plan

import (
	"cmp"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Schedule orders the work. A cluster that is not up starts everywhere at once: etcd's members need
// each other, and there are no users to disturb. If it has been up, pods may run on its workers:
// these wait, and follow in batches. In a running cluster the control planes are changed one after
// another, each between gates, then the workers in batches; workers on which nothing works anyway
// need not wait for a batch. Proofs come last. Schedule is pure, and makes only steps with work to
// do: there is a gate where something changes or is unknown.
func Schedule(s Situation) []Step {
	p := planner{Situation: s, of: map[string][]Change{}, old: map[string][]Change{}, idle: s.idle()}
	for _, c := range s.Changes {
		if c.RemovesVersion() {
			p.old[c.Host] = append(p.old[c.Host], c)
			continue
		}
		p.of[c.Host] = append(p.of[c.Host], c)
	}
	switch {
	case len(p.of) == 0 && s.APIError == "":
	case s.Alive:
		p.living()
	default:
		p.first()
	}
	p.usable()
	p.removeVersions()
	p.proofs()
	return p.steps
}

type planner struct {
	Situation
	of    map[string][]Change // by host
	old   map[string][]Change // versions to remove, by host
	idle  map[string]bool
	steps []Step
}

// add appends a step after deps, where "" is none, and returns its name.
func (p *planner) add(verb Verb, host string, deps ...string) string {
	deps = slices.Compact(slices.DeleteFunc(deps, func(d string) bool { return d == "" }))
	s := newStep(verb, host, p.of[host], deps)
	p.steps = append(p.steps, s)
	return s.Name
}

// ifNeeded is add for a step that is needed only if it carries out a change; it returns "" if it
// does not.
func (p *planner) ifNeeded(verb Verb, host string, deps ...string) string {
	if !p.carries(verb, host) {
		return ""
	}
	return p.add(verb, host, deps...)
}

// first starts everything at once, except for workers of a cluster that has been up.
func (p *planner) first() {
	installs := map[string]string{}
	var servers []string
	var atOnce, workers []spec.Machine
	copied := p.deliverFirst()
	down := p.proveDown(copied)
	for _, m := range p.Machines {
		if m.Role == spec.Worker && p.Initialized { // pods may run there
			workers = append(workers, m)
			continue
		}
		atOnce = append(atOnce, m)
		installs[m.Name] = p.ifNeeded(Install, m.Name, cmp.Or(down, copied[m.Name]))
		if m.Role == spec.ControlPlane {
			servers = append(servers, installs[m.Name])
		}
	}
	api := p.add(AwaitAPI, "", servers...)
	up := api
	if p.Unrecorded {
		up = p.add(RecordUp, "", api)
	}
	manifests := p.ifUnknown(ApplyManifests, "", up)
	for _, m := range atOnce {
		install := installs[m.Name]
		if m.Role == spec.ControlPlane {
			// If certificates are renewed, etcd may not have answered, or could not be queried.
			if p.renews(m.Name) || p.carries(MarkInitialized, m.Name) || p.carries(AwaitEtcd, m.Name) {
				p.ifNeeded(MarkInitialized, m.Name, p.add(AwaitEtcd, m.Name, up))
			}
			install = "" // the gate of the API, which follows those of etcd
		}
		late := p.ifNeeded(StartLate, m.Name, cmp.Or(manifests, api), install)
		p.awaitHost(m.Name, cmp.Or(late, installs[m.Name]))
		p.ifUnknown(EnsureNode, m.Name, api, install)
	}
	p.workers(workers, api)
}

// awaitHost adds the gates of a host after last, the last step that starts something there: those
// of its units, and of the certificates that they use. last is "" if nothing is started.
func (p *planner) awaitHost(host, last string) {
	units := ""
	if last != "" {
		units = p.add(AwaitUnits, host, last)
	} else {
		units = p.ifNeeded(AwaitUnits, host)
	}
	if p.renews(host) {
		p.add(AwaitServed, host, units)
	}
	if p.authenticates(host) {
		p.add(AwaitAuthentication, host, units)
	}
}

// proveDown adds the check that precedes installing all control planes of a cluster that has been
// up at once, if any are installed. It follows all that is copied to them: an old check proves
// nothing.
func (p *planner) proveDown(copied map[string]string) string {
	var deps []string
	installs := false
	for _, m := range p.Machines {
		if m.Role == spec.ControlPlane {
			deps = append(deps, copied[m.Name])
			installs = installs || p.carries(Install, m.Name)
		}
	}
	if !p.Initialized || !installs {
		return ""
	}
	return p.add(ProveDown, "", deps...)
}

// ifUnknown is ifNeeded, but if the API was not queried it also adds the step, which then finds
// out.
func (p *planner) ifUnknown(verb Verb, host string, deps ...string) string {
	if p.APIError != "" && p.selected(host) {
		return p.add(verb, host, deps...)
	}
	return p.ifNeeded(verb, host, deps...)
}

// living changes one control plane after another, then the workers.
func (p *planner) living() {
	var controlPlanes, workers []spec.Machine
	for _, m := range p.Machines {
		if m.Role == spec.ControlPlane {
			controlPlanes = append(controlPlanes, m)
		} else {
			workers = append(workers, m)
		}
	}
	// Broken ones come first: they have nothing to lose, and the others need them.
	slices.SortStableFunc(controlPlanes, p.brokenFirst)
	gate := ""
	if p.lacksRights() {
		gate = p.add(ApplyManifests, "")
	}
	for _, m := range controlPlanes {
		gate = p.controlPlane(m.Name, gate)
	}
	if p.APIError != "" {
		gate = p.add(AwaitAPI, "", gate)
	}
	if !p.stands(ApplyManifests, "") {
		p.ifUnknown(ApplyManifests, "", gate)
	}
	for _, m := range controlPlanes {
		if !p.stands(EnsureNode, m.Name) { // its node is unknown
			p.ifUnknown(EnsureNode, m.Name, gate)
		}
	}
	p.workers(workers, gate)
}

// lacksRights reports whether a role or its binding is missing, for example because a first run
// ended right after the cluster was up. Without the rights of the pod network no node becomes
// Ready, and no gate opens.
func (p *planner) lacksRights() bool {
	return slices.ContainsFunc(p.of[""], func(c Change) bool {
		return c.Kind == ObjectChange && c.Action == Create && strings.HasPrefix(c.Name, "ClusterRole")
	})
}

// usable ends what installs or changes a cluster: that is complete when the cluster can be used. If
// only some hosts are selected, the others are not checked; and a stage of a rotation has proofs of
// its own.
func (p *planner) usable() {
	changes := slices.ContainsFunc(p.steps, func(s Step) bool {
		return s.Verb == Install || s.Verb == StartLate || s.Verb == Apply || s.Verb == ApplyManifests
	})
	if changes && p.selected("") && len(p.Proofs) == 0 {
		p.add(AwaitUsable, "", p.ends()...)
	}
}

// Proofs come last: those of a host after its other steps, then those of the cluster, one after
// another.
func (p *planner) proofs() {
	last := map[string]string{}
	for _, s := range p.steps {
		last[s.Host] = s.Name
	}
	for _, proof := range p.Proofs {
		if proof.Host != "" && p.selected(proof.Host) && !p.stands(proof.Verb, proof.Host) {
			p.add(proof.Verb, proof.Host, last[proof.Host])
		}
	}
	ends := p.ends()
	for _, proof := range p.Proofs {
		if proof.Host == "" {
			ends = []string{p.add(proof.Verb, "", ends...)}
		}
	}
}

// ends returns the steps on which no other step depends.
func (p *planner) ends() []string {
	needed := map[string]bool{}
	for _, s := range p.steps {
		for _, d := range s.Deps {
			needed[d] = true
		}
	}
	var ends []string
	for _, s := range p.steps {
		if !needed[s.Name] {
			ends = append(ends, s.Name)
		}
	}
	return ends
}

// stands reports whether there is such a step already.
func (p *planner) stands(verb Verb, host string) bool {
	return slices.ContainsFunc(p.steps, func(s Step) bool { return s.Verb == verb && s.Host == host })
}

// controlPlane adds the steps of one control plane of a running cluster after gate, and returns the
// gate for the next.
func (p *planner) controlPlane(name, gate string) string {
	if !p.hasChanges(name) {
		return gate
	}
	if p.carries(Apply, name) {
		copied := p.deliver(name)
		if p.restartsEtcd(name) {
			gate = p.add(CheckQuorum, name, gate, copied)
			copied = ""
		}
		gate = p.add(Apply, name, gate, copied)
	}
	if p.carries(Apply, name) || p.carries(AwaitUnits, name) || p.carries(AwaitEtcd, name) || p.carries(MarkInitialized, name) {
		gate = p.add(AwaitUnits, name, gate)
		gate = p.add(AwaitEtcd, name, gate)
	}
	if p.authenticates(name) {
		gate = p.add(AwaitAuthentication, name, gate)
	}
	if p.renews(name) {
		gate = p.add(AwaitServed, name, gate)
	}
	gate = cmp.Or(p.ifNeeded(MarkInitialized, name, gate), gate)
	return p.add(EnsureNode, name, gate)
}

// restartsEtcd reports whether the etcd member of a host stops for its changes. Files that etcd
// reloads, such as renewed certificates, can be written even if no member may stop.
func (p *planner) restartsEtcd(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == UnitChange && c.Name == stack.EtcdService && c.Action != Await
	})
}

// workers adds the steps of all workers after gate. Joining and idle workers are changed all at
// once, since that disturbs no pods; so are those on which nothing can be disturbed (quiet), and
// no gate follows them. The others are changed pool by pool and in batches, so that
// never more of them are disturbed than the pool allows; broken ones come first. If a gate of a
// batch does not open, no batch follows it.
func (p *planner) workers(workers []spec.Machine, gate string) {
	pools := map[string][]spec.Machine{}
	var order []string
	for _, m := range workers {
		switch {
		case !p.hasChanges(m.Name) && (p.APIError == "" || !p.selected(m.Name)):
		case p.joining(m.Name):
			p.worker(m.Name, []string{gate})
		case p.quiet(m.Name):
			p.add(Apply, m.Name, gate)
		default:
			if pools[m.Pool] == nil {
				order = append(order, m.Pool)
			}
			pools[m.Pool] = append(pools[m.Pool], m)
		}
	}
	before := []string{gate}
	for _, pool := range order {
		before = p.pool(pools[pool], max(1, p.MaxUnavailable[pool]), gate, before)
	}
}

// pool adds the steps of a pool's workers, of which so many may be disturbed at a time, and returns
// the gates of the last batch. Idle workers begin after gate, the others after the gates of the
// previous pool: in the first batch as many as the idle ones leave room for, and the rest once all
// of these are healthy.
func (p *planner) pool(workers []spec.Machine, most int, gate string, before []string) []string {
	var gates []string // of the current batch
	var up []spec.Machine
	for _, m := range workers {
		if p.idle[m.Name] {
			gates = append(gates, p.worker(m.Name, []string{gate}))
		} else {
			up = append(up, m)
		}
	}
	if len(gates) >= most || len(up) == 0 { // no other step begins with them
		before, gates = append(slices.DeleteFunc(slices.Clone(before), func(d string) bool { return d == gate }), gates...), nil
	}
	slices.SortStableFunc(up, p.brokenFirst)
	for _, m := range up {
		if len(gates) == most {
			before, gates = gates, nil
		}
		gates = append(gates, p.worker(m.Name, before))
	}
	if len(gates) == 0 {
		return before
	}
	return gates
}

func (p *planner) worker(name string, deps []string) string {
	if p.carries(Apply, name) {
		deps = []string{p.add(Apply, name, slices.Concat(deps, []string{p.deliver(name)})...)}
	}
	if p.carries(Apply, name) || p.carries(AwaitUnits, name) {
		deps = []string{p.add(AwaitUnits, name, deps...)}
	}
	if p.renews(name) {
		deps = []string{p.add(AwaitServed, name, deps...)}
	}
	return p.add(EnsureNode, name, deps...)
}

func (p *planner) carries(verb Verb, host string) bool {
	return len(newStep(verb, host, p.of[host], nil).Changes) > 0
}

// renews reports whether serving certificates change: the next host is changed once they are in
// use.
func (p *planner) renews(host string) bool { return slices.ContainsFunc(p.of[host], isServed) }

// authenticates reports whether an API server must reload its authentication file: the next is
// changed once it has.
func (p *planner) authenticates(host string) bool {
	return slices.ContainsFunc(p.of[host], authenticates)
}

func (p *planner) hasChanges(host string) bool { return len(p.of[host]) > 0 }
