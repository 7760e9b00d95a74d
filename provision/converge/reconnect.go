package converge

import (
	"context"
	"errors"
	"fmt"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
)

// repeats is how often a step is repeated after its connection was lost.
const repeats = 3

// persist carries out a step, and repeats it when the connection to a host was lost meanwhile, until
// the step's deadline. Steps may be repeated: a script that was cut off and still works is waited
// for (host.Cmd.Exclusive), and what a step does is found to be done.
func (r *Runner) persist(ctx context.Context, s plan.Step) error {
	for again := 0; ; again++ {
		err := r.attempt(ctx, s)
		var lost *host.LostError
		if !errors.As(err, &lost) || again == repeats || ctx.Err() != nil {
			return err
		}
		h, ok := r.Hosts[lost.Host].(host.Reconnecter)
		if !ok {
			return err
		}
		if err := h.Connect(ctx); err != nil {
			return fmt.Errorf("the connection was lost (%w), and not made again: %w", lost.Err, err)
		}
		r.report(s.Host, fmt.Sprintf("the connection to %s was lost: repeating the step (%d of %d)", lost.Host, again+1, repeats))
		if err := r.holds(ctx, s); err != nil {
			return err
		}
	}
}

// attempt carries out a step once.
func (r *Runner) attempt(ctx context.Context, s plan.Step) error {
	ctx, done := r.connected(ctx, s.Host)
	defer done()
	err := doTable[s.Verb](r, ctx, s)
	// What the loss ended may name the end of the context alone.
	if lost := new(host.LostError); err != nil && errors.As(context.Cause(ctx), &lost) && !errors.As(err, new(*host.LostError)) {
		return fmt.Errorf("%w: %w", err, lost)
	}
	return err
}

// holds returns an error if another process may be working on the cluster, and the step writes.
func (r *Runner) holds(ctx context.Context, s plan.Step) error {
	if r.Holds == nil || !s.Writes() {
		return nil
	}
	if err := r.Holds(ctx); err != nil {
		return fmt.Errorf("not begun, since another process may be working on the cluster: %w", err)
	}
	return nil
}
