package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/plan"
)

// nodePatience is how long nodes may take to be Ready again. The API's data about a node whose
// machine was away is outdated for a moment, and its kubelet needs time to become ready.
const nodePatience = time.Minute

// MovedError means that a saved plan no longer fits.
type MovedError struct{ Moved []string }

func (e *MovedError) Error() string {
	return "the plan no longer fits; nothing was changed, since:\n  " + strings.Join(e.Moved, "\n  ")
}

// Apply makes the cluster equal to its spec, or carries out a saved plan (Saved): machines, PKI,
// observe, diff, schedule, run, observe again. Preflight has to precede it, and the lock of Store
// has to be held.
func (s *Session) Apply(ctx context.Context) error {
	s.UI.Phase("machines and bundle")
	if err := s.Record.save(ctx, s.Store, s.SpecPath); err != nil {
		return err
	}
	if err := s.ensureMachines(ctx); err != nil {
		return err
	}
	s.changing = true
	todo, closeAll, err := s.look(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	if s.Saved != nil {
		if moved := s.Saved.Moved(s.view.Observed, todo); len(moved) > 0 {
			return &MovedError{moved}
		}
	}
	if todo.Empty() {
		return s.nothing(ctx, todo)
	}
	if err := s.UI.Confirm(ctx, todo); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx, todo.Alive); err != nil {
		return err
	}
	if err := s.UI.Begin(todo); err != nil {
		return err
	}
	s.UI.Phase("converge")
	stop := context.AfterFunc(ctx, func() {
		s.UI.Note("interrupted: steps that change something finish, within 30 s; interrupt again to end at once")
	})
	defer stop()
	if err := s.carryOut(ctx, todo.Steps); err != nil {
		return err
	}
	return s.verify(ctx)
}

// runner carries out the steps of a plan made from the last view.
func (s *Session) runner() *converge.Runner {
	return &converge.Runner{View: *s.view, Holds: s.Store.Holds, Record: s.recordUp, Exist: s.exist, Packed: s.Packed, Note: s.UI.Note}
}

// carryOut runs the steps of a plan.
func (s *Session) carryOut(ctx context.Context, steps []plan.Step) error {
	runner := s.runner()
	defer runner.End()
	return dag.Run(ctx, runner.Bind(steps), s.Parallelism, s.UI.Step)
}

// nothing has to be done on the hosts.
func (s *Session) nothing(ctx context.Context, todo *plan.Plan) error {
	if err := s.settle(ctx, todo.Alive); err != nil {
		return err
	}
	if err := s.stamp(ctx); err != nil {
		return err
	}
	if held := s.HeldBy(todo); held != nil {
		s.UI.Note("No changes.")
		return held
	}
	if n := len(todo.LeftOut); n > 0 || len(todo.Held) > 0 {
		s.UI.Note("No changes. Excluded by --only: " + plan.Count(n, "change") + ".")
		return nil
	}
	s.UI.Note("No changes. The cluster is as " + s.File + " requires.")
	return s.saveApplied(ctx)
}

// observeSettled observes, and repeats that as long as only nodes that are not Ready are left.
func (s *Session) observeSettled(ctx context.Context) (*plan.Plan, error) {
	limited, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		left, err := s.observe(ctx)
		other := func(c plan.Change) bool { return c.Kind != plan.NodeChange && !c.RemovesVersion() }
		waits := func(c plan.Change) bool { return c.Kind == plan.NodeChange }
		if err != nil || !slices.ContainsFunc(left.Changes, waits) || slices.ContainsFunc(left.Changes, other) {
			return left, err
		}
		select {
		case <-limited.Done():
			return left, ctx.Err()
		case <-tick.C:
		}
	}
}

// verify observes again, and returns an error that lists the remaining differences.
func (s *Session) verify(ctx context.Context) error {
	s.RebuildEmpty, s.beginning = "", "" // that has been done
	s.view = nil                         // or a thousand hosts would be in memory twice
	left, err := s.observeSettled(ctx)
	if err == nil {
		err = s.planResources(ctx)
	}
	if err != nil {
		return err
	}
	var lines []string
	for _, r := range s.resources {
		lines = append(lines, r.Kind+" "+r.Name+" "+r.Reason)
	}
	for _, c := range left.Changes {
		if !c.RemovesVersion() { // what used it has ended since
			lines = append(lines, c.String())
		}
	}
	if left.APIError != "" {
		lines = append(lines, "cluster: the API could not be queried: "+left.APIError)
	}
	if len(lines) > 0 {
		return fmt.Errorf("after all steps, these differences remain:\n  %s", strings.Join(lines, "\n  "))
	}
	if held := s.HeldBy(left); held != nil {
		return held
	}
	if len(left.LeftOut) > 0 || len(left.Held) > 0 {
		s.UI.Note(fmt.Sprintf("excluded by --only: %s", plan.Count(len(left.LeftOut), "change")))
		return nil
	}
	return errors.Join(s.stamp(ctx), s.saveApplied(ctx))
}

// stamp reads the cluster's clock if a stage of a rotation has been reached.
func (s *Session) stamp(ctx context.Context) (err error) {
	if s.Prove == plan.ProveStage {
		s.proven, err = s.view.API.Now(ctx)
	}
	return err
}
