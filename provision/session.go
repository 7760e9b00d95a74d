// Package provision is one run on a cluster. A Session finds the machines, plans, asks, carries the
// plan out, and observes again; each of its methods reads as a table of contents of the packages
// below.
//
// It knows neither flags nor terminals (UI), nor the source of machines (Machines).
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
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// UI shows a run to a person, and asks for confirmation.
type UI interface {
	// Phase begins a part of the run ("observe").
	Phase(name string)
	// Host reports what a host, or "bundle", waits for.
	Host(name, what string)
	// Note reports something that the person should know.
	Note(text string)
	// Confirm asks whether to carry out the plan; an error is a no.
	Confirm(ctx context.Context, p *plan.Plan) error
	// Begin receives the plan that is carried out now; Step the events of its steps.
	Begin(p *plan.Plan) error
	Step(e dag.Event)
}

// Machines is the source of machines: what a session needs of a provider.
type Machines interface {
	// Ensure creates the named machines that are missing, and starts those that are stopped. It
	// removes no disk.
	Ensure(ctx context.Context, machines []string, report func(name, what string)) (*spec.Infrastructure, error)
	// Find reads and changes nothing.
	Find(ctx context.Context) (*spec.Infrastructure, error)
	// Plan returns what Ensure would create or change besides machines and their disks. It changes nothing.
	Plan(ctx context.Context, machines []string) ([]spec.ResourceChange, error)
}

// Publisher is an optional interface of Machines that run an API balancer for the operator.
type Publisher interface {
	// Publish points the balancer at the control planes of infra, whose API servers are verified
	// with ca (PEM). It may be called before or after the balancer started, and any number of
	// times.
	Publish(infra *spec.Infrastructure, ca []byte) error
}

// Recorder is an optional interface of Machines that exist without slipway: the state records what
// they are.
type Recorder interface {
	Record() spec.KnownHosts
}

// Noter is an optional interface of Machines that have something to say of what they read.
type Noter interface {
	Notes() []string
}

// Wish is what a person wants of a run, besides the spec.
type Wish struct {
	// Only are the nodes that it is restricted to; empty is all.
	Only []string
	// RebuildEmpty names the cluster if it may start again without its data; otherwise it is empty.
	RebuildEmpty string
	// AllowPluginChange allows another network plugin in a cluster that has been up.
	AllowPluginChange bool
	// Renew are patterns of certificates that are renewed although they still fit.
	Renew []string
	// Leaving are the items that a rotation will replace.
	Leaving []string
	// Prove is what is proven at the end.
	Prove plan.Proving
	// Ignore are names of preflight checks that are left out.
	Ignore []string
	// Saved is a plan to carry out exactly; if it is nil, the run plans.
	Saved *plan.Plan
}

// Session is one run on one cluster. The exported fields are set before it begins.
type Session struct {
	Cluster *spec.Cluster
	// File is the spec as the person named it, and SpecPath its absolute path, or "-".
	File, SpecPath string
	// Version is this slipway's version.
	Version string
	// Own are the CAs that the spec names, by name of the table; Remarks are findings of its checks
	// that are not errors.
	Own     map[string]certs.Item
	Remarks []string
	// Record is what the state records of the cluster, and Store the state; Store is nil if a plan
	// finds none.
	Record   *Record
	Store    *state.Store
	Machines Machines
	// Bundle gets the artifacts for an architecture (GOARCH), and returns the defects of cached ones
	// as notes. Arch is the architecture of machines of which nothing else is known.
	Bundle func(ctx context.Context, arch string) (artifacts stack.Set, notes []string, err error)
	Arch   string
	// HasBundle reports whether Bundle takes no time, since it has been made before; nil is never.
	HasBundle func(ctx context.Context, arch string) bool
	UI        UI
	// Dial connects to machines. Reach is how API, etcd and endpoints are reached; nil is the
	// network, through the hosts.
	Dial  func(context.Context, []spec.Machine) (hosts map[string]host.Host, closeAll func(), failed map[string]error)
	Reach live.Reach
	// Wishes computes the desired state; nil is package stack.
	Wishes converge.Wishes
	// Inspect says what keeps new machines from becoming nodes; nil is nothing.
	Inspect func(context.Context, preflight.Input, map[string]host.Host) (preflight.Report, error)
	// Packed is the directory where programs that are copied are kept compressed; "" for none that
	// outlives the run.
	Packed string
	// Parallelism is how many steps may run at a time.
	Parallelism int
	Wish

	// found are the machines before any change; infra those after, with the machines that are gone.
	found, infra *spec.Infrastructure
	preflights   plan.Preflight
	resources    []spec.ResourceChange // what the provider would create or change besides machines
	beginning    string                // the generation for a cluster without data
	archs        map[string]string     // the machines' architectures, as of the last apply
	artifacts    stack.Sets            // for each architecture; nil before they were asked for
	lacking      map[string]error      // why there are none for an architecture
	bundleNotes  []string              // the defects of cached bundles
	causes       []error               // errors of machines that are held because they could not be reached
	ensured      bool                  // the provider has done its part
	changing     bool                  // the run will change what it observes
	stored       *keys.Stored
	secrets      *keys.Secrets
	hosts        map[string]host.Host
	observer     converge.Observer
	inspected    bool                // new machines were inspected
	refused      map[string][]string // what was found against them, by host
	warnings     []string            // what else was found
	view         *converge.View      // the last view
	proven       time.Time           // when a stage of a rotation was reached, by the cluster's clock
}

// Found returns the machines that Preflight found, with those that are gone: they are still etcd
// members.
func (s *Session) Found() *spec.Infrastructure { return s.found }

// MachineChanges returns the machines that Apply creates or starts, as determined by Preflight.
func (s *Session) MachineChanges() []plan.MachineChange { return s.preflights.Changes }

// ForgetMachineChanges skips machines that are missing or do not run.
func (s *Session) ForgetMachineChanges() { s.preflights.Changes = nil }

// Observed returns the last observed state of the hosts and the API.
func (s *Session) Observed() stack.State {
	if s.view == nil {
		return stack.State{}
	}
	return s.view.Observed
}

// Hosts returns the connected hosts.
func (s *Session) Hosts() map[string]host.Host { return s.hosts }

// Unsaved reports whether a plan issued certificates that are not stored.
func (s *Session) Unsaved() bool { return s.secrets != nil && s.secrets.Unsaved() }

// TextDiffs returns the text diffs of changes that Plan found.
func (s *Session) TextDiffs(ctx context.Context, changes []plan.Change) (converge.TextDiffs, error) {
	return s.view.TextDiffs(ctx, changes)
}

// Plan observes the existing machines, and determines the differences. It gets the bundles if that
// was not done. It changes nothing: missing secrets are created in memory. The returned function
// closes the connections.
func (s *Session) Plan(ctx context.Context) (*plan.Plan, func(), error) {
	if s.artifacts == nil {
		if err := s.getBundles(ctx); err != nil {
			return nil, nil, err
		}
	}
	s.infra = s.found
	return s.look(ctx)
}

// MachinePlan is the plan of a cluster whose machines have to be created or started first: further
// changes are unknown before they run.
func (s *Session) MachinePlan() *plan.Plan {
	p := s.newPlan(plan.Situation{})
	p.Machines = s.preflights.Changes
	return p
}

// newPlan returns a plan of this version of slipway, made now.
func (s *Session) newPlan(situation plan.Situation) *plan.Plan {
	p := plan.NewPlan(s.Cluster.Metadata.Name, situation)
	p.Resources = s.resources
	p.Slipway, p.Created = s.Version, time.Now().UTC().Truncate(time.Second)
	return p
}
