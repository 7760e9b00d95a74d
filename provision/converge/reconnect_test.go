package converge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/hosttest"
)

// rebooting is a host whose connection is cut, and can be made again until err says why not.
type rebooting struct {
	host.Host
	gone chan struct{}
	err  error
	made int
}

func (h *rebooting) Done() <-chan struct{} { return h.gone }

func (h *rebooting) Err() error {
	return &host.LostError{Host: "demo-worker-1", Address: "192.0.2.1:22", Err: errors.New("no sign of life for 30s")}
}

func (h *rebooting) cut() { close(h.gone) }

func (h *rebooting) Connect(context.Context) error {
	if h.err != nil {
		return h.err
	}
	h.made++
	h.gone = make(chan struct{})
	return nil
}

// TestStepsAreRepeatedAfterALoss: a few times, but not after other errors, nor if there is no connection to be had.
func TestStepsAreRepeatedAfterALoss(t *testing.T) {
	const verb plan.Verb = "test"
	other, unreachable := errors.New("no space left"), &host.UnreachableError{Host: "demo-worker-1", Last: errors.New("refused")}
	for _, tt := range []struct {
		name     string
		losses   int   // of the first attempts
		fails    error // the attempt after
		connect  error
		attempts int
		want     error
		says     string
	}{
		{name: "no loss", attempts: 1},
		{name: "one loss", losses: 1, attempts: 2},
		{name: "three losses", losses: 3, attempts: 4},
		{name: "always", losses: 100, attempts: 4, says: "no sign of life"},
		{name: "another error", fails: other, attempts: 1, want: other},
		{name: "another error after a loss", losses: 1, fails: other, attempts: 2, want: other},
		{name: "does not come back", losses: 1, connect: unreachable, attempts: 1, want: unreachable, says: "the connection was lost (no sign of life"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &rebooting{gone: make(chan struct{}), err: tt.connect}
			var said []string
			attempts := 0
			doTable[verb] = func(_ *Runner, ctx context.Context, _ plan.Step) error {
				if attempts++; attempts > tt.losses {
					return tt.fails
				}
				h.cut()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			defer delete(doTable, verb)
			r := &Runner{View: View{
				Input: stack.Input{Machines: []spec.Machine{{Name: "demo-cp-1", Role: spec.ControlPlane}, {Name: "demo-worker-1", Role: spec.Worker}}},
				Hosts: map[string]host.Host{"demo-cp-1": hosttest.NewMemory("demo-cp-1"), "demo-worker-1": h}, Report: func(_, what string) { said = append(said, what) },
			}}
			err := r.persist(t.Context(), plan.Step{Verb: verb, Host: "demo-worker-1"})
			if attempts != tt.attempts || !errors.Is(err, tt.want) && tt.want != nil || (err == nil) != (tt.want == nil && tt.says == "") {
				t.Errorf("%d attempts, error %v", attempts, err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %q", err)
			}
			if again := func(s string) bool { return strings.Contains(s, "repeating the step") }; h.made > 0 && !slices.ContainsFunc(said, again) {
				t.Errorf("reported %q", said)
			}
		})
	}
}
