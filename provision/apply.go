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

// nodePatience is how long nodes may take to be Ready once more. What the API says of a node whose machine was away is old
// for a moment, and its kubelet has to make itself ready.
const nodePatience = time.Minute

// MovedError says that a saved plan no longer fits.
type MovedError struct{ Moved []string }

func (e *MovedError) Error() string {
	return "the plan does not fit any more; nothing was touched, since:\n  " + strings.Join(e.Moved, "\n  ")
}

// Apply makes the cluster equal to its spec, or carries out what was planned (Saved): machines, PKI, observe, diff, schedule,
// run, observe again. Preflight has to come before it, and the lock of Store has to be held.
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
		s.UI.Note("interrupted: steps that change something come to their end, up to 30 s; interrupt again to end at once")
	})
	defer stop()
	if err := dag.Run(ctx, s.runner().Bind(todo.Steps), s.Parallelism, s.UI.Step); err != nil {
		return err
	}
	return s.verify(ctx)
}

// runner carries out the steps of a plan that was made of the last view.
func (s *Session) runner() *converge.Runner {
	return &converge.Runner{View: *s.view, Holds: s.Store.Holds, Record: s.recordUp, Exist: s.exist}
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
		s.UI.Note("No changes. Left out by --only: " + plan.Count(n, "change") + ".")
		return nil
	}
	s.UI.Note("No changes. The cluster is as " + s.File + " asks.")
	return s.saveApplied(ctx)
}

// observeSettled observes, and again as long as nothing is left but nodes that are not Ready.
func (s *Session) observeSettled(ctx context.Context) (*plan.Plan, error) {
	limited, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		left, err := s.observe(ctx)
		other := func(c plan.Change) bool { return c.Kind != plan.NodeChange }
		if err != nil || len(left.Changes) == 0 || slices.ContainsFunc(left.Changes, other) {
			return left, err
		}
		select {
		case <-limited.Done():
			return left, ctx.Err()
		case <-tick.C:
		}
	}
}

// verify observes again: what still differs is named, and a failure.
func (s *Session) verify(ctx context.Context) error {
	s.RebuildEmpty, s.beginning = "", "" // that has been done
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
		lines = append(lines, c.String())
	}
	if left.APIError != "" {
		lines = append(lines, "cluster: the API could not be asked: "+left.APIError)
	}
	if len(lines) > 0 {
		return fmt.Errorf("after all steps had run, this still differed:\n  %s", strings.Join(lines, "\n  "))
	}
	if held := s.HeldBy(left); held != nil {
		return held
	}
	if len(left.LeftOut) > 0 || len(left.Held) > 0 {
		s.UI.Note(fmt.Sprintf("left out by --only: %s", plan.Count(len(left.LeftOut), "change")))
		return nil
	}
	return errors.Join(s.stamp(ctx), s.saveApplied(ctx))
}

// stamp asks for the time, where a stage of a rotation has been reached.
func (s *Session) stamp(ctx context.Context) (err error) {
	if s.Prove == plan.ProveStage {
		s.proven, err = s.view.API.Now(ctx)
	}
	return err
}
