package main

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
	"slipway.dev/slipway/provision/stack"
)

// preflight finds the machines, and refuses what cannot come to a good end before any of them is made.
func (w *work) preflight(ctx context.Context) (err error) {
	if name := w.spec.Metadata.Name; w.rebuild != "" && w.rebuild != name {
		return fmt.Errorf("--rebuild-empty names %q, and the spec is of cluster %q; nothing was changed", w.rebuild, name)
	}
	if w.rebuild != "" { // a beginning that an earlier run has not brought to its end is gone on with
		w.beginning = cmp.Or(w.identity.Rebuilding, plan.NewGeneration())
	}
	if w.found, err = w.provider.Find(ctx); err != nil {
		return err
	}
	w.preflights, err = plan.Preflights(w.spec, w.identity, w.found, plan.Wish{Only: w.only, RebuildEmpty: w.rebuild != "", AllowPluginChange: w.allowPlugin})
	w.found = w.withGone(w.found)
	return err
}

// ensureMachines gets machines and bundle, side by side, since both take long when nothing is there. Where all machines
// run nothing is done to them yet: settle does that.
func (w *work) ensureMachines(ctx context.Context) (artifacts map[string]stack.Artifact, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		infra := w.found
		if w.ensured = len(w.preflights.Changes) > 0; w.ensured {
			var names []string
			for _, c := range w.preflights.Changes {
				names = append(names, c.Name)
			}
			made, err := w.provider.Ensure(groupCtx, names, w.progress.Host)
			if err != nil {
				return err
			}
			infra = w.withGone(made)
		}
		w.infra = infra
		return nil
	})
	group.Go(func() (err error) {
		artifacts, err = w.ensureBundle(groupCtx)
		return err
	})
	return artifacts, group.Wait()
}

// withGone adds the machines that are gone: they are still members of etcd, and in the certificates of the others.
func (w *work) withGone(infra *spec.Infrastructure) *spec.Infrastructure {
	all := *infra
	have := map[string]spec.Machine{}
	for _, m := range slices.Concat(infra.Machines, w.preflights.Gone, w.preflights.LeftOut) {
		have[m.Name] = m
	}
	all.Machines = nil
	for _, n := range w.spec.Nodes() {
		if m, ok := have[n.Name]; ok {
			all.Machines = append(all.Machines, m)
		}
	}
	return &all
}

// running are the machines that can be asked: not those that are gone, nor those that --only leaves out and that do not run.
func (w *work) running() []spec.Machine {
	var all []spec.Machine
	for _, m := range w.infra.Machines {
		if w.infra.States[m.Name] == spec.MachineRunning && w.infra.Failed[m.Name] == nil {
			all = append(all, m)
		}
	}
	return all
}

// exist names the machines that there are by now, and those of which there is a disk, with which they can come back.
func (w *work) exist(ctx context.Context) ([]string, error) {
	infra, err := w.provider.Find(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat(slices.Collect(maps.Keys(infra.States)), slices.Collect(maps.Keys(infra.Disks))), nil
}

// without goes on without the machines that are gone or cannot be reached: they are left alone. A rotation needs every
// machine that there is, and nothing can be done where none can be reached.
func (w *work) without(ctx context.Context, failed map[string]error) error {
	w.runner.Held, w.causes = map[string][]string{}, nil
	for _, m := range w.preflights.Gone {
		w.runner.Held[m.Name] = []string{plan.GoneReason}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed = maps.Clone(failed)
	maps.Copy(failed, w.infra.Failed)
	var errs []error
	reached := len(failed) == 0
	for name := range w.hosts {
		reached = reached || w.wanted(name)
	}
	for _, n := range w.spec.Nodes() { // without its address nobody can be told of it
		known := func(m spec.Machine) bool { return m.Name == n.Name }
		if n.Role == spec.ControlPlane && !slices.ContainsFunc(w.infra.Machines, known) {
			errs = append(errs, fmt.Errorf("control plane %s has no machine, and the others need to know its address: %w", n.Name,
				cmp.Or(failed[n.Name], errors.New("run `slipway apply` first"))))
		}
	}
	for _, m := range w.infra.Machines {
		if state := w.infra.States[m.Name]; state != spec.MachineRunning && w.runner.Held[m.Name] == nil && failed[m.Name] == nil {
			failed[m.Name] = fmt.Errorf("its machine is %s", cmp.Or(state, "not there"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		switch {
		case !w.wanted(name):
			w.progress.Note("left out by --only, and it cannot be reached: " + failed[name].Error())
		case w.prove == plan.ProveStage || !reached:
			errs = append(errs, failed[name])
		default:
			w.runner.Held[name] = []string{failed[name].Error()}
			w.causes = append(w.causes, failed[name])
		}
	}
	return errors.Join(errs...)
}

// wanted says whether --only does not leave a node out.
func (w *work) wanted(name string) bool { return len(w.only) == 0 || slices.Contains(w.only, name) }

// heldBy is the error of nodes that were wanted and left alone; nil for none.
func (w *work) heldBy(p *plan.Plan) error {
	held := map[string][]string{}
	for name, reasons := range p.Held {
		if w.wanted(name) {
			held[name] = reasons
		}
	}
	if len(held) == 0 {
		return nil
	}
	return &plan.HeldError{Held: held, Causes: w.causes}
}

// allTakePart refuses a rotation where a machine is held that is not gone: it would be cut off.
func (w *work) allTakePart(s plan.Situation) error {
	if w.prove != plan.ProveStage {
		return nil
	}
	held := maps.Clone(s.Held)
	for _, m := range w.preflights.Gone {
		delete(held, m.Name)
	}
	if len(held) == 0 {
		return nil
	}
	return fmt.Errorf("a rotation needs every machine that there is: %w", &plan.HeldError{Held: held})
}

// surplus speaks of machines that the spec no longer has. Removing them is not available yet. Members of etcd are not
// among them: those were refused before.
func (w *work) surplus() {
	for _, m := range w.infra.Surplus {
		w.progress.Note("machine " + m.Name + " is not in " + w.file + " any more, and is left as it is; `slipway destroy --machine " + m.Name + "` removes one that " +
			"has never joined the cluster")
	}
}
