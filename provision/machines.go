package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// Preflight finds the machines, and refuses what cannot come to a good end before any of them is made.
func (s *Session) Preflight(ctx context.Context) (err error) {
	if name := s.Cluster.Metadata.Name; s.RebuildEmpty != "" && s.RebuildEmpty != name {
		return fmt.Errorf("--rebuild-empty names %q, and the spec is of cluster %q; nothing was changed", s.RebuildEmpty, name)
	}
	if s.RebuildEmpty != "" { // a beginning that an earlier run has not brought to its end is gone on with
		s.beginning = cmp.Or(s.Record.Rebuilding, plan.NewGeneration())
	}
	if s.found, err = s.Machines.Find(ctx); err != nil {
		return err
	}
	s.preflights, err = plan.Preflights(s.Cluster, s.Record.Identity, s.found, plan.Wish{Only: s.Only, RebuildEmpty: s.RebuildEmpty != "", AllowPluginChange: s.AllowPluginChange})
	if err != nil {
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

// toEnsure are the machines to create or start.
func (s *Session) toEnsure() (names []string) {
	for _, c := range s.preflights.Changes {
		names = append(names, c.Name)
	}
	return names
}

// ensureMachines gets machines and bundle, side by side, since both take long when nothing is there. Where all machines
// run nothing is done to them yet: settle does that.
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
	group.Go(func() error {
		_, err := s.Artifacts(groupCtx)
		return err
	})
	return group.Wait()
}

// withGone adds the machines that are gone: they are still members of etcd, and in the certificates of the others.
func (s *Session) withGone(infra *spec.Infrastructure) *spec.Infrastructure {
	all := *infra
	have := map[string]spec.Machine{}
	for _, m := range slices.Concat(infra.Machines, s.preflights.Gone, s.preflights.LeftOut) {
		have[m.Name] = m
	}
	all.Machines = nil
	for _, n := range s.Cluster.Nodes() {
		if m, ok := have[n.Name]; ok {
			all.Machines = append(all.Machines, m)
		}
	}
	return &all
}

// running are the machines that can be asked: not those that are gone, nor those that --only leaves out and that do not run.
func (s *Session) running() []spec.Machine {
	var all []spec.Machine
	for _, m := range s.infra.Machines {
		if s.infra.States[m.Name] == spec.MachineRunning && s.infra.Failed[m.Name] == nil {
			all = append(all, m)
		}
	}
	return all
}

// exist names the machines that there are by now, and those of which there is a disk, with which they can come back.
func (s *Session) exist(ctx context.Context) ([]string, error) {
	infra, err := s.Machines.Find(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat(slices.Collect(maps.Keys(infra.States)), slices.Collect(maps.Keys(infra.Disks))), nil
}

// without goes on without the machines that are gone or cannot be reached: they are left alone. A rotation needs every
// machine that there is, and nothing can be done where none can be reached.
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
	var errs []error
	reached := len(failed) == 0
	for name := range s.hosts {
		reached = reached || s.wanted(name)
	}
	for _, n := range s.Cluster.Nodes() { // without its address nobody can be told of it
		known := func(m spec.Machine) bool { return m.Name == n.Name }
		if n.Role == spec.ControlPlane && !slices.ContainsFunc(s.infra.Machines, known) {
			errs = append(errs, fmt.Errorf("control plane %s has no machine, and the others need to know its address: %w", n.Name,
				cmp.Or(failed[n.Name], errors.New("run `slipway apply` first"))))
		}
	}
	for _, m := range s.infra.Machines {
		if state := s.infra.States[m.Name]; state != spec.MachineRunning && s.observer.Held[m.Name] == nil && failed[m.Name] == nil {
			failed[m.Name] = fmt.Errorf("its machine is %s", cmp.Or(state, "not there"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		switch {
		case !s.wanted(name):
			s.UI.Note("left out by --only, and it cannot be reached: " + failed[name].Error())
		case s.Prove == plan.ProveStage || !reached:
			errs = append(errs, failed[name])
		default:
			s.observer.Held[name] = []string{failed[name].Error()}
			s.causes = append(s.causes, failed[name])
		}
	}
	return errors.Join(errs...)
}

// wanted says whether --only does not leave a node out.
func (s *Session) wanted(name string) bool { return len(s.Only) == 0 || slices.Contains(s.Only, name) }

// HeldBy is the error of nodes that were wanted and left alone; nil for none.
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

// allTakePart refuses a rotation where a machine is held that is not gone: it would be cut off.
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
	return fmt.Errorf("a rotation needs every machine that there is: %w", &plan.HeldError{Held: held})
}

// surplus speaks of machines that the spec no longer has. Removing them is not available yet. Members of etcd are not
// among them: those were refused before.
func (s *Session) surplus() {
	for _, m := range s.infra.Surplus {
		s.UI.Note("machine " + m.Name + " is not in " + s.File + " any more, and is left as it is; `slipway destroy --machine " + m.Name + "` removes one that " +
			"has never joined the cluster")
	}
}
