package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// Preflight finds the machines, and refuses what cannot succeed before any of them is created.
func (s *Session) Preflight(ctx context.Context) (err error) {
	if name := s.Cluster.Metadata.Name; s.RebuildEmpty != "" && s.RebuildEmpty != name {
		return fmt.Errorf("--rebuild-empty names %q, and the spec is of cluster %q; nothing was changed", s.RebuildEmpty, name)
	}
	if s.RebuildEmpty != "" { // a rebuild that an earlier run did not complete is continued
		s.beginning = cmp.Or(s.Record.Rebuilding, plan.NewGeneration())
	}
	if err := plan.CheckOnly(s.Only, s.Cluster.NodeNames()); err != nil {
		return err
	}
	if s.found, err = s.Machines.Find(ctx); err != nil {
		return err
	}
	wish := plan.Wish{Only: s.Only, RebuildEmpty: s.RebuildEmpty != "", AllowPluginChange: s.AllowPluginChange}
	s.preflights, err = plan.Preflights(s.Cluster, s.Record.Identity, s.found, wish)
	if err != nil {
		return err
	}
	if err := s.recallArchitectures(ctx); err != nil {
		return err
	}
	s.found = s.withGone(s.found)
	return s.planResources(ctx)
}

// planResources asks the provider what it would create or change besides machines.
func (s *Session) planResources(ctx context.Context) (err error) {
	s.resources, err = s.Machines.Plan(ctx, s.toEnsure())
	return err
}

// toEnsure returns the machines to create or start.
func (s *Session) toEnsure() (names []string) {
	for _, c := range s.preflights.Changes {
		names = append(names, c.Name)
	}
	return names
}

// ensureMachines gets machines and bundles in parallel, since both take long if nothing exists yet.
// If all machines run, it does not change them: settle does that.
func (s *Session) ensureMachines(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		infra := s.found
		if s.ensured = len(s.preflights.Changes) > 0; s.ensured {
			made, err := s.Machines.Ensure(groupCtx, s.toEnsure(), s.UI.Host)
			if err != nil {
				return err
			}
			infra, s.resources = s.withGone(made), nil
		}
		s.infra = infra
		return nil
	})
	group.Go(func() error { return s.getBundles(groupCtx) })
	return group.Wait()
}

// withGone adds the machines that are gone: they are still etcd members, and in the certificates of
// the others.
func (s *Session) withGone(infra *spec.Infrastructure) *spec.Infrastructure {
	all := *infra
	have := map[string]spec.Machine{}
	for _, m := range slices.Concat(infra.Machines, s.preflights.Gone, s.preflights.LeftOut) {
		have[m.Name] = m
	}
	all.Machines = nil
	for _, n := range s.Cluster.Nodes() {
		if m, ok := have[n.Name]; ok {
			all.Machines = append(all.Machines, s.withArch(m))
		}
	}
	return &all
}

// exist returns the machines that exist now, and those whose disk exists, with which they can
// return.
func (s *Session) exist(ctx context.Context) ([]string, error) {
	infra, err := s.Machines.Find(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat(slices.Collect(maps.Keys(infra.States)), slices.Collect(maps.Keys(infra.Disks))), nil
}

// without continues without the machines that are gone or cannot be reached: they are held. A
// rotation needs every existing machine, and nothing can be done if none can be reached.
func (s *Session) without(ctx context.Context, failed map[string]error) error {
	s.observer.Held, s.causes = map[string][]string{}, nil
	for _, m := range s.preflights.Gone {
		s.observer.Held[m.Name] = []string{plan.GoneReason}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed = maps.Clone(failed)
	maps.Copy(failed, s.infra.Failed)
	reached := len(failed) == 0 || slices.ContainsFunc(slices.Collect(maps.Keys(s.hosts)), s.wanted)
	errs := s.unaddressed(failed)
	for _, m := range s.infra.Machines {
		if state := s.infra.States[m.Name]; state != spec.MachineRunning && s.observer.Held[m.Name] == nil && failed[m.Name] == nil {
			failed[m.Name] = fmt.Errorf("its machine is %s", cmp.Or(state, "not there"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		switch {
		case !s.wanted(name):
			s.UI.Note("excluded by --only, and it cannot be reached: " + failed[name].Error())
		case s.Prove == plan.ProveStage || !reached:
			errs = append(errs, failed[name])
		default:
			s.observer.Held[name] = []string{host.Reason(name, failed[name])}
			s.causes = append(s.causes, failed[name])
		}
	}
	return errors.Join(errs...)
}

// unaddressed returns an error for each control plane that has no machine: its address is unknown.
func (s *Session) unaddressed(failed map[string]error) []error {
	var errs []error
	for _, n := range s.Cluster.Nodes() {
		known := func(m spec.Machine) bool { return m.Name == n.Name }
		if n.Role == spec.ControlPlane && !slices.ContainsFunc(s.infra.Machines, known) {
			errs = append(errs, fmt.Errorf("control plane %s has no machine, and the others need to know its address: %w", n.Name,
				cmp.Or(failed[n.Name], errors.New("run `slipway apply` first"))))
		}
	}
	return errs
}

// wanted reports whether --only includes a node.
func (s *Session) wanted(name string) bool { return len(s.Only) == 0 || slices.Contains(s.Only, name) }

// HeldBy returns the error for nodes that were wanted and held; nil for none.
func (s *Session) HeldBy(p *plan.Plan) error {
	held := map[string][]string{}
	for name, reasons := range p.Held {
		if s.wanted(name) {
			held[name] = reasons
		}
	}
	if len(held) == 0 {
		return nil
	}
	return &plan.HeldError{Held: held, Causes: s.causes}
}

// allTakePart refuses a rotation if a machine is held that is not gone: it would be cut off.
func (s *Session) allTakePart(situation plan.Situation) error {
	if s.Prove != plan.ProveStage {
		return nil
	}
	held := maps.Clone(situation.Held)
	for _, m := range s.preflights.Gone {
		delete(held, m.Name)
	}
	if len(held) == 0 {
		return nil
	}
	return fmt.Errorf("a rotation needs every existing machine: %w", &plan.HeldError{Held: held})
}

// surplus notes machines that are no longer in the spec. Removing them is not available yet. Etcd
// members are not among them: those were refused before.
func (s *Session) surplus() {
	for _, m := range s.infra.Surplus {
		s.UI.Note("machine " + m.Name + " is not in " + s.File + " any more, and is kept; `slipway destroy --machine " + m.Name + "` removes one that " +
			"has never joined the cluster")
	}
}
