package provision

import (
	"context"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// Actions are what steps do. Schedule only orders them; Runner binds them to hosts and to the API.
type Actions interface {
	// Install makes a host that was never up equal to its desired state, but for the units that need the API.
	Install(ctx context.Context, host string) error
	// StartLate starts those.
	StartLate(ctx context.Context, host string) error
	// Change makes a host of a living cluster equal to its desired state and returns when its units are up.
	Change(ctx context.Context, host string) error
	// UnitsUp waits until all units of a host are active.
	UnitsUp(ctx context.Context, host string) error
	// APIReady waits until the API answers, whichever server it is.
	APIReady(ctx context.Context) error
	// ServerReady waits until the API server of one control plane says that it is ready.
	ServerReady(ctx context.Context, host string) error
	// Manifests applies the objects that every cluster gets.
	Manifests(ctx context.Context) error
	// NodeReady waits for a node, gives it its labels and taints, and waits until it is Ready.
	NodeReady(ctx context.Context, node string) error
	// Seal records on a control plane that the cluster has been up.
	Seal(ctx context.Context, host string) error
}

// Schedule orders what has to be done. A cluster that has never been up comes up everywhere at once: etcd's members
// need each other, and nobody can be disturbed. On a living one the control planes follow one another, each behind a
// gate, and the workers come last.
func Schedule(s Situation, do Actions) plan.Plan {
	p := planner{Situation: s, do: do, changed: map[string]bool{}, pending: map[string]bool{}}
	for _, c := range s.Changes {
		p.changed[c.Host] = true
	}
	for _, n := range s.Nodes {
		p.pending[n.Name] = true
	}
	if s.Alive {
		p.living()
	} else {
		p.first()
	}
	return p.plan
}

type planner struct {
	Situation
	do      Actions
	changed map[string]bool // hosts
	pending map[string]bool // nodes
	plan    plan.Plan
}

// Names of the cluster's own steps.
const (
	stepAPI       = "cluster: wait for the API"
	stepManifests = "cluster: apply manifests"
)

func (p *planner) add(name, host string, deps []string, do func(context.Context) error) string {
	p.plan.Steps = append(p.plan.Steps, plan.Step{Name: name, Host: host, Deps: deps, Do: do})
	return name
}

// onHost gives a step's function for a host.
func onHost(do func(context.Context, string) error, host string) func(context.Context) error {
	return func(ctx context.Context) error { return do(ctx, host) }
}

// first brings everything up at once.
func (p *planner) first() {
	installs := map[string]string{}
	var servers []string
	for _, m := range p.Machines {
		step := p.add(m.Name+": install", m.Name, nil, onHost(p.do.Install, m.Name))
		installs[m.Name] = step
		if m.Role == spec.ControlPlane {
			servers = append(servers, step)
		}
	}
	p.add(stepAPI, "", servers, p.do.APIReady)
	p.add(stepManifests, "", []string{stepAPI}, p.do.Manifests)
	for _, m := range p.Machines {
		p.add(m.Name+": wait for the node", m.Name, []string{stepAPI, installs[m.Name]}, onHost(p.do.NodeReady, m.Name))
		late := p.add(m.Name+": start what needs the API", m.Name, []string{stepManifests, installs[m.Name]}, onHost(p.do.StartLate, m.Name))
		p.add(m.Name+": wait for the units", m.Name, []string{late}, onHost(p.do.UnitsUp, m.Name))
		if m.Role == spec.ControlPlane {
			p.add(m.Name+": record that the cluster is up", m.Name, []string{stepAPI}, onHost(p.do.Seal, m.Name))
		}
	}
}

// living changes one control plane after another, then the workers.
func (p *planner) living() {
	var gate []string // what the next control plane waits for
	for _, m := range p.Machines {
		if m.Role != spec.ControlPlane || !p.changed[m.Name] {
			continue
		}
		change := p.add(m.Name+": change", m.Name, gate, onHost(p.do.Change, m.Name))
		units := p.add(m.Name+": wait for the units", m.Name, []string{change}, onHost(p.do.UnitsUp, m.Name))
		server := p.add(m.Name+": wait for its API server", m.Name, []string{units}, onHost(p.do.ServerReady, m.Name))
		node := p.add(m.Name+": wait for the node", m.Name, []string{server}, onHost(p.do.NodeReady, m.Name))
		gate = []string{node, p.add(m.Name+": record that the cluster is up", m.Name, []string{server}, onHost(p.do.Seal, m.Name))}
	}
	if len(p.Objects) > 0 {
		api := p.add(stepAPI, "", gate, p.do.APIReady)
		p.add(stepManifests, "", []string{api}, p.do.Manifests)
	}
	for _, m := range p.Machines {
		switch {
		case m.Role == spec.Worker && p.changed[m.Name]:
			change := p.add(m.Name+": change", m.Name, gate, onHost(p.do.Change, m.Name))
			units := p.add(m.Name+": wait for the units", m.Name, []string{change}, onHost(p.do.UnitsUp, m.Name))
			p.add(m.Name+": wait for the node", m.Name, []string{units}, onHost(p.do.NodeReady, m.Name))
		case !p.changed[m.Name] && p.pending[m.Name]:
			p.add(m.Name+": wait for the node", m.Name, gate, onHost(p.do.NodeReady, m.Name))
		}
	}
}
