package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/secret"
)

// maxNotes is the number of notes kept of a step: the first ones and the newest.
const maxNotes = 100

// Recorder writes a run to a store while it runs. Its methods are safe for concurrent use and do
// not wait for the store; those of a nil Recorder do nothing.
type Recorder struct {
	store Store
	mu    sync.Mutex // guards what follows, but for written
	run   Run
	index map[string]int // of steps, by name
	over  bool
	// changed has a token while the store is behind. A single goroutine writes the newest state:
	// all events during a write are stored with the next write.
	changed chan struct{}
	written chan error // the last write's, once all is written
}

// Start stores the run with the next number; Plan adds its steps later. If the previous run is
// still marked as running, its process has died, because the caller holds the store's lock: it is
// marked as interrupted. The oldest runs are removed. Began defaults to now. Cancelling ctx does
// not end the recording; End does.
func Start(ctx context.Context, store Store, run Run) (*Recorder, error) {
	ctx = context.WithoutCancel(ctx)
	numbers, err := Numbers(ctx, store)
	if err != nil {
		return nil, err
	}
	run.Version, run.Number, run.Result = Version, 1, Running
	if run.Began.IsZero() {
		run.Began = now()
	}
	if n := len(numbers); n > 0 {
		run.Number = numbers[n-1] + 1
	}
	run.Plan, run.Steps = nil, nil
	if run.Number > 1 {
		if err := closeLast(ctx, store, run.Number-1); err != nil {
			return nil, err
		}
	}
	if err := put(ctx, store, run.encode); err != nil {
		return nil, fmt.Errorf("record run %d: %w", run.Number, err)
	}
	var old []string
	for _, n := range numbers[:max(len(numbers)+1-kept, 0)] {
		old = append(old, entries(n)...)
	}
	if len(old) > 0 {
		if err := store.Remove(ctx, old...); err != nil {
			return nil, fmt.Errorf("remove old runs: %w", err)
		}
	}
	r := &Recorder{store: store, run: run, changed: make(chan struct{}, 1), written: make(chan error, 1)}
	go r.write(ctx)
	return r, nil
}

// put stores encoded entries.
func put(ctx context.Context, store Store, encode func() (map[string]secret.Bytes, error)) error {
	items, err := encode()
	if err != nil || len(items) == 0 {
		return err
	}
	return store.Put(ctx, items)
}

// closeLast marks the last run as interrupted if it is still marked as running. No older run can
// be: each run closes the previous one before it is stored.
func closeLast(ctx context.Context, store Store, number int) error {
	last, err := read(ctx, store, number, true)
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		return nil // it is named whenever runs are listed
	case err != nil:
		return err
	case last.Result != Running:
		return nil
	}
	last.abandon()
	if err := put(ctx, store, last.encode); err != nil {
		return fmt.Errorf("record the end of run %d: %w", number, err)
	}
	return nil
}

// Number is the run's.
func (r *Recorder) Number() int {
	if r == nil {
		return 0
	}
	return r.run.Number
}

// Plan sets the steps of the run. It must be called at most once. The steps become Pending; the
// Recorder takes ownership of both arguments.
func (r *Recorder) Plan(plan json.RawMessage, steps []Step) {
	r.change(func(run *Run) {
		run.Plan, run.Steps, run.planned = plan, steps, len(steps)
		r.index = make(map[string]int, len(steps))
		for i := range steps {
			steps[i].State = Pending
			r.index[steps[i].Name] = i
		}
	})
}

// Phase begins a part of the run; the one before is over.
func (r *Recorder) Phase(name string) {
	r.change(func(run *Run) {
		at := now()
		run.endPhase(at)
		run.Phases = append(run.Phases, Phase{Name: name, Began: at})
	})
}

// Part records what becomes of a part of the phase, which begins when it is named first: its state,
// what it is doing if that is another phase of its own (empty if not), and a detail.
func (r *Recorder) Part(name string, state State, doing, detail string) {
	r.change(func(run *Run) {
		n := len(run.Phases)
		if n == 0 {
			return
		}
		at := now()
		parts := slices.Clone(run.Phases[n-1].Parts) // a copy, since a writer may be reading
		run.Phases[n-1].Parts = parts
		i := slices.IndexFunc(parts, func(p Part) bool { return p.Name == name })
		if i < 0 {
			i = len(parts)
			parts = append(parts, Part{Name: name, Began: at})
			run.Phases[n-1].Parts = parts
		}
		p := &parts[i]
		p.Phases = slices.Clone(p.Phases)
		if last := len(p.Phases) - 1; doing != "" && (last < 0 || p.Phases[last].Name != doing) {
			endLast(p.Phases, at)
			p.Phases = append(p.Phases, Phase{Name: doing, Began: at})
		}
		if p.State, p.Detail = state, detail; state != Running {
			p.end(state, at)
		}
	})
}

// Event records what happened to a step; it is a report function for dag.Run. A step that Plan was
// not told of is added, as a change.
func (r *Recorder) Event(e dag.Event) {
	r.change(func(run *Run) {
		i, ok := r.index[e.Step.Name]
		if !ok {
			i = len(run.Steps)
			if r.index == nil {
				r.index = map[string]int{}
			}
			r.index[e.Step.Name] = i
			run.Steps = append(run.Steps, Step{Name: e.Step.Name, Host: e.Step.Host, Kind: Change, Deps: e.Step.Deps})
		}
		run.Steps[i].event(e)
	})
}

func (s *Step) event(e dag.Event) {
	at := e.Time.UTC()
	switch e.Type {
	case dag.Started:
		s.State, s.Began = Running, at
	case dag.Succeeded:
		s.State, s.Ended = Succeeded, at
	case dag.Failed:
		s.State, s.Ended = Failed, at
		if errors.Is(e.Err, context.Canceled) { // it did not fail by itself
			s.State = Interrupted
		}
	case dag.Skipped:
		s.State = Skipped
	}
	if e.Err != nil {
		s.Error = e.Err.Error()
	}
}

// Note records what a host is doing or waiting for. It is added to the step that runs there; of
// several, to the gate that started last, because gates wait. If none runs, or the note repeats the
// previous one, it is dropped.
func (r *Recorder) Note(host, what string) {
	r.change(func(run *Run) {
		s := run.speaking(host)
		if s == nil {
			return
		}
		n := len(s.Notes)
		switch note := (Note{At: now(), Text: what}); {
		case n > 0 && s.Notes[n-1].Text == what:
		case n == maxNotes: // a copy, since a writer may be reading
			s.Notes = append(slices.Clone(s.Notes[:n-1]), note)
		default:
			s.Notes = append(s.Notes, note)
		}
	})
}

// speaking is the step that a note of a host belongs to; nil if none runs there.
func (r *Run) speaking(host string) *Step {
	var best *Step
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Host != host || s.State != Running {
			continue
		}
		gates := best != nil && best.Kind == Gate
		if best == nil || s.Kind == Gate && !gates || (s.Kind == Gate) == gates && s.Began.After(best.Began) {
			best = s
		}
	}
	return best
}

// End closes the run with its result and returns once everything is written. Without an error the
// run Succeeded, or was Unchanged if it had no steps; with one it Failed, or was Interrupted if ctx
// is cancelled. The error that End returns means that the journal lacks the end of the run. What is
// said after End is dropped.
func (r *Recorder) End(ctx context.Context, err error) error {
	if r == nil {
		return nil
	}
	r.change(func(run *Run) {
		result, reason := Succeeded, ""
		if len(run.Steps) == 0 {
			result = Unchanged
		}
		if err != nil {
			result, reason = Failed, err.Error()
			if ctx.Err() != nil {
				result = Interrupted
			}
		}
		run.end(result, reason, now())
		r.over = true
		close(r.changed) // its token is still delivered
	})
	if err, first := <-r.written; first && err != nil {
		return fmt.Errorf("record run %d: %w", r.run.Number, err)
	}
	return nil
}

// change changes the run and wakes the writer.
func (r *Recorder) change(do func(*Run)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	select {
	case r.changed <- struct{}{}: // before do, which may close it; the writer waits for mu
	default:
	}
	do(&r.run)
}

// write writes the newest state until there is nothing new. Each write is complete, so only the
// last error matters.
func (r *Recorder) write(ctx context.Context) {
	var err error
	planned := false // what does not change is written
	for range r.changed {
		r.mu.Lock()
		run := r.run
		run.Phases, run.Steps = slices.Clone(run.Phases), slices.Clone(run.Steps)
		r.mu.Unlock()
		if err = nil; !planned {
			err = put(ctx, r.store, run.encodePlanned)
			planned = err == nil && (run.Plan != nil || run.planned > 0)
		}
		if err == nil {
			err = put(ctx, r.store, run.encode)
		}
	}
	r.written <- err
	close(r.written)
}

// now returns the time in UTC without a monotonic reading, like a stored time.
func now() time.Time { return time.Now().UTC().Round(0) }
