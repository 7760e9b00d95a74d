package plan

import (
	"cmp"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Schedule orders what has to be done. A cluster that is not up comes up everywhere at once: etcd's members need each
// other, and nobody can be disturbed; but where it has been up pods may run, and workers wait, and come in batches. On a
// living one the control planes follow one another, each between gates; then come the workers, in batches, but for those on
// which nothing works anyway. Proofs come last. It is pure, and steps are only for what has to be done: a gate stands where
// something changed or is not known.
func Schedule(s Situation) []Step {
	p := planner{Situation: s, of: map[string][]Change{}, idle: s.idle()}
	for _, c := range s.Changes {
		p.of[c.Host] = append(p.of[c.Host], c)
	}
	switch {
	case len(s.Changes) == 0 && s.APIError == "":
	case s.Alive:
		p.living()
	default:
		p.first()
	}
	p.usable()
	p.proofs()
	return p.steps
}

type planner struct {
	Situation
	of    map[string][]Change // by host
	idle  map[string]bool
	steps []Step
}

// add appends a step after deps, where "" is none, and gives its name.
func (p *planner) add(verb Verb, host string, deps ...string) string {
	deps = slices.Compact(slices.DeleteFunc(deps, func(d string) bool { return d == "" }))
	s := newStep(verb, host, p.of[host], deps)
	p.steps = append(p.steps, s)
	return s.Name
}

// ifNeeded is add for a step that has no use unless it carries something out; it gives "" where there is none.
func (p *planner) ifNeeded(verb Verb, host string, deps ...string) string {
	if !p.carries(verb, host) {
		return ""
	}
	return p.add(verb, host, deps...)
}

// first brings everything up at once, but for workers of a cluster that has been up.
func (p *planner) first() {
	installs := map[string]string{}
	var servers []string
	down := p.proveDown()
	for _, m := range p.Machines {
		if m.Role == spec.Worker && p.Initialized { // pods may run there: see below
			continue
		}
		installs[m.Name] = p.ifNeeded(Install, m.Name, down)
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
	var workers []spec.Machine
	for _, m := range p.Machines {
		install := installs[m.Name]
		if m.Role == spec.Worker && p.Initialized {
			workers = append(workers, m)
			continue
		}
		if m.Role == spec.ControlPlane {
			// Where certificates are renewed, etcd may have answered nobody, and nobody could ask it.
			if p.renews(m.Name) || p.carries(MarkInitialized, m.Name) || p.carries(AwaitEtcd, m.Name) {
				p.ifNeeded(MarkInitialized, m.Name, p.add(AwaitEtcd, m.Name, up))
			}
			install = "" // the API was waited for, which waited for it
		}
		late := p.ifNeeded(StartLate, m.Name, cmp.Or(manifests, api), install)
		units := ""
		if last := cmp.Or(late, installs[m.Name]); last != "" {
			units = p.add(AwaitUnits, m.Name, last)
		} else {
			units = p.ifNeeded(AwaitUnits, m.Name)
		}
		if p.renews(m.Name) {
			p.add(AwaitServed, m.Name, units)
		}
		if p.authenticates(m.Name) {
			p.add(AwaitAuthentication, m.Name, units)
		}
		p.ifUnknown(EnsureNode, m.Name, api, install)
	}
	p.workers(workers, api)
}

// proveDown adds the proof that comes before control planes of a cluster that has been up are installed all at once, where
// any is.
func (p *planner) proveDown() string {
	if p.Initialized && slices.ContainsFunc(p.Machines, func(m spec.Machine) bool { return m.Role == spec.ControlPlane && p.carries(Install, m.Name) }) {
		return p.add(ProveDown, "")
	}
	return ""
}

// ifUnknown is ifNeeded, but for what the API was not asked about: there the step finds out.
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
	// Those that do not work come first: there is nothing to lose with them, and the others need them.
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
		if !p.stands(EnsureNode, m.Name) { // its node could not be asked about
			p.ifUnknown(EnsureNode, m.Name, gate)
		}
	}
	p.workers(workers, gate)
}

// lacksRights says whether a role or its binding is missing, as where a first run was cut short once the cluster was up:
// without that of the pods' network no node gets Ready, and no gate opens.
func (p *planner) lacksRights() bool {
	return slices.ContainsFunc(p.of[""], func(c Change) bool {
		return c.Kind == ObjectChange && c.Action == Create && strings.HasPrefix(c.Name, "ClusterRole")
	})
}

// usable ends what installs or changes a cluster: that is done when it can be used. Where only some hosts are selected, the
// rest is not looked at; and a stage of a rotation has proofs of its own.
func (p *planner) usable() {
	changes := slices.ContainsFunc(p.steps, func(s Step) bool {
		return s.Verb == Install || s.Verb == StartLate || s.Verb == Apply || s.Verb == ApplyManifests
	})
	if changes && p.selected("") && len(p.Proofs) == 0 {
		p.add(AwaitUsable, "", p.ends()...)
	}
}

// Proofs come last: those of a host after its other steps, and then those of the cluster, one after another.
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

// Ends are the steps that no other depends on.
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

// stands says whether there is such a step already.
func (p *planner) stands(verb Verb, host string) bool {
	return slices.ContainsFunc(p.steps, func(s Step) bool { return s.Verb == verb && s.Host == host })
}

// ControlPlane adds the steps of one control plane of a living cluster after gate, and gives the gate for the next.
func (p *planner) controlPlane(name, gate string) string {
	if !p.hasChanges(name) {
		return gate
	}
	if p.carries(Apply, name) {
		if p.restartsEtcd(name) {
			gate = p.add(CheckQuorum, name, gate)
		}
		gate = p.add(Apply, name, gate)
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

// restartsEtcd says whether the member of a host stops for its changes. What etcd reloads, such as renewed certificates, it can
// also be given while no member can be spared.
func (p *planner) restartsEtcd(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == UnitChange && c.Name == stack.EtcdService && c.Action != Await
	})
}

// workers adds the steps of all workers after gate: those that are only now joining, and those that are idle, all at once,
// for nobody is disturbed; the others pool after pool and in batches, so that never more of them are disturbed than the pool
// allows, with those that are broken first. A batch with a gate that stays shut is the last.
func (p *planner) workers(workers []spec.Machine, gate string) {
	pools := map[string][]spec.Machine{}
	var order []string
	for _, m := range workers {
		switch {
		case !p.hasChanges(m.Name) && (p.APIError == "" || !p.selected(m.Name)):
		case p.joining(m.Name):
			p.worker(m.Name, []string{gate})
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

// pool adds the steps of a pool's workers, of which so many may be disturbed at a time, and gives the gates of the last.
// Those that are idle begin after gate, the others after the gates of the pool before: in the first batch as many as those
// that are idle leave room for, and the rest once all of these are well.
func (p *planner) pool(workers []spec.Machine, most int, gate string, before []string) []string {
	var gates []string // of the batch that is being filled
	var up []spec.Machine
	for _, m := range workers {
		if p.idle[m.Name] {
			gates = append(gates, p.worker(m.Name, []string{gate}))
		} else {
			up = append(up, m)
		}
	}
	if len(gates) >= most || len(up) == 0 { // no other begins with them
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
		deps = []string{p.add(Apply, name, deps...)}
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

// renews says whether certificates change that are shown to others: the next host is touched once they are in use.
func (p *planner) renews(host string) bool { return slices.ContainsFunc(p.of[host], isServed) }

// authenticates says whether an API server has to take another authentication file: the next is touched once it has.
func (p *planner) authenticates(host string) bool {
	return slices.ContainsFunc(p.of[host], authenticates)
}

func (p *planner) hasChanges(host string) bool { return len(p.of[host]) > 0 }

// joining is a node that the API does not know, without a kubelet: nobody can be running on it.
func (p *planner) joining(name string) bool {
	has := func(kind Kind, what string) bool {
		return slices.ContainsFunc(p.of[name], func(c Change) bool { return c.Kind == kind && c.Name == what && c.Action == Create })
	}
	return has(NodeChange, name) && has(UnitChange, stack.KubeletService)
}

// broken is a node that is not Ready, a member that is not healthy, or a host whose units do not all run.
func (p *planner) broken(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == NodeChange || c.Kind == MemberChange || c.Kind == UnitChange && c.Action != Restart && c.Action != Delete
	})
}

// brokenFirst compares two nodes by how much the others need them to be mended: those whose member of etcd is out come first,
// since no other can be spared before it works, then those that are broken otherwise.
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

// memberOut reports whether the member of etcd on a host is not healthy, or does not run.
func (p *planner) memberOut(name string) bool {
	return slices.ContainsFunc(p.of[name], func(c Change) bool {
		return c.Kind == MemberChange || c.Kind == UnitChange && c.Name == stack.EtcdService && c.Action != Restart && c.Action != Delete
	})
}
