// Package provision is one run on a cluster. A Session finds the machines, plans, asks, carries the plan out, and looks
// again; each of its methods reads as a table of contents of the packages below.
//
// It knows neither flags nor terminals (UI), nor where machines come from (Machines).
package provision

import (
	"context"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// UI shows a run to a person, and asks them.
type UI interface {
	// Phase begins a part of the run ("observe").
	Phase(name string)
	// Host says what a host, or "bundle", waits for.
	Host(name, what string)
	// Note says something that the person should know.
	Note(text string)
	// Confirm asks whether the plan is to be carried out; an error is a no.
	Confirm(ctx context.Context, p *plan.Plan) error
	// Begin is told the plan that is carried out now; Step what becomes of its steps.
	Begin(p *plan.Plan) error
	Step(e dag.Event)
}

// Machines is where machines come from: what a session needs of a provider.
type Machines interface {
	// Ensure makes those of the machines named that are missing, and starts those that are stopped. It removes no disk.
	Ensure(ctx context.Context, machines []string, report func(name, what string)) (*spec.Infrastructure, error)
	// Find looks and changes nothing.
	Find(ctx context.Context) (*spec.Infrastructure, error)
	// Plan returns what Ensure would create or change besides machines and their disks. It changes nothing.
	Plan(ctx context.Context, machines []string) ([]spec.ResourceChange, error)
}

// Publisher is a second power of Machines that run an API balancer for the operator.
type Publisher interface {
	// Publish points the balancer at the control planes of infra, whose API servers are verified with ca (PEM). It may be
	// called before or after the balancer started, and any number of times.
	Publish(infra *spec.Infrastructure, ca []byte) error
}

// Wish is what a person asks of a run, besides the spec.
type Wish struct {
	// Only are the nodes that it is restricted to; empty is all.
	Only []string
	// RebuildEmpty names the cluster if it may begin again without its data; else it is empty.
	RebuildEmpty string
	// AllowPluginChange allows another network plugin in a cluster that has been up.
	AllowPluginChange bool
	// Renew are patterns of certificates that are renewed although they fit.
	Renew []string
	// Leaving are the items that a rotation is about to replace.
	Leaving []string
	// Prove is what is proven in the end.
	Prove plan.Proving
	// Saved is a plan to carry out to the letter; nil plans.
	Saved *plan.Plan
}

// Session is one run on one cluster. The exported fields are given before it begins.
type Session struct {
	Cluster *spec.Cluster
	// File is the spec as the person named it, and SpecPath where it was read, absolute or "-".
	File, SpecPath string
	// Version is that of this slipway.
	Version string
	// Own are the CAs that the spec names, by name of the table; Remarks are what its checks found that is no mistake.
	Own     map[string]certs.Item
	Remarks []string
	// Record is what the state knows of the cluster, and Store the state; Store is nil if a plan finds none.
	Record   *Record
	Store    *state.Store
	Machines Machines
	// Bundle gets the artifacts, and says in notes what was wrong with the cached ones.
	Bundle func(context.Context) (artifacts map[string]stack.Artifact, notes []string, err error)
	UI     UI
	// Dial connects to machines. Reach is how API, etcd and endpoints are reached; nil is the network, through the hosts.
	Dial  func(context.Context, []spec.Machine) (hosts map[string]host.Host, closeAll func(), failed map[string]error)
	Reach live.Reach
	// Wishes computes what is desired; nil is package stack.
	Wishes converge.Wishes
	// Parallelism is how many steps may run at a time.
	Parallelism int
	Wish

	// found are the machines before anything was done; infra those that there are then, with those that are gone.
	found, infra *spec.Infrastructure
	preflights   plan.Preflight
	resources    []spec.ResourceChange // what the provider would create or change besides machines
	beginning    string                // the generation that a cluster without data gets
	artifacts    map[string]stack.Artifact
	bundleNotes  []string // what the cached bundle was not
	causes       []error  // why machines are left alone that could not be reached
	ensured      bool     // the provider has done its part
	changing     bool     // what is found is going to be changed
	stored       *keys.Stored
	secrets      *keys.Secrets
	hosts        map[string]host.Host
	observer     converge.Observer
	view         *converge.View // as it was seen last
	proven       time.Time      // when a stage of a rotation was, by the cluster's clock
}

// Found are the machines that Preflight found, with those that are gone: they are still members of etcd.
func (s *Session) Found() *spec.Infrastructure { return s.found }

// MachineChanges are the machines that Apply makes or starts, as Preflight found out.
func (s *Session) MachineChanges() []plan.MachineChange { return s.preflights.Changes }

// ForgetMachineChanges leaves machines alone that are missing or do not run.
func (s *Session) ForgetMachineChanges() { s.preflights.Changes = nil }

// Observed is the state of the hosts and the API as they were seen last.
func (s *Session) Observed() stack.State {
	if s.view == nil {
		return stack.State{}
	}
	return s.view.Observed
}

// Hosts are the hosts that are connected.
func (s *Session) Hosts() map[string]host.Host { return s.hosts }

// Unsaved reports whether a plan issued certificates that are not stored.
func (s *Session) Unsaved() bool { return s.secrets != nil && s.secrets.Unsaved() }

// TextDiffs are the texts that changes of a plan change, as Plan found them.
func (s *Session) TextDiffs(ctx context.Context, changes []plan.Change) (converge.TextDiffs, error) {
	return s.view.TextDiffs(ctx, changes)
}

// Artifacts gets the bundle, which Plan then uses.
func (s *Session) Artifacts(ctx context.Context) (map[string]stack.Artifact, error) {
	var err error
	s.artifacts, s.bundleNotes, err = s.Bundle(ctx)
	return s.artifacts, err
}

// Plan observes the machines that there are, and works out what differs. It gets the bundle if that was not done. It changes
// nothing: secrets that are missing are made in memory. The function that it returns ends the connections.
func (s *Session) Plan(ctx context.Context) (*plan.Plan, func(), error) {
	if s.artifacts == nil {
		if _, err := s.Artifacts(ctx); err != nil {
			return nil, nil, err
		}
	}
	s.infra = s.found
	return s.look(ctx)
}

// MachinePlan is the plan of a cluster whose machines have to be made or started first: what is to be done on them cannot be
// known before they run.
func (s *Session) MachinePlan() *plan.Plan {
	p := s.newPlan(plan.Situation{})
	p.Machines = s.preflights.Changes
	return p
}

// newPlan is a plan of this slipway, made now.
func (s *Session) newPlan(situation plan.Situation) *plan.Plan {
	p := plan.NewPlan(s.Cluster.Metadata.Name, situation)
	p.Resources = s.resources
	p.Slipway, p.Created = s.Version, time.Now().UTC().Truncate(time.Second)
	return p
}
