package dag

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Run performs the plan's steps, each after all it depends on, at most workers at a time.
//
// When a step fails, the steps that depend on it are skipped and the independent ones go on. When ctx is cancelled,
// nothing new starts and the running steps, whose context it is, are waited for. Among the steps that could start, the
// first in the plan does: with one worker two runs are the same.
//
// Every event goes to report (which may be nil) from Run's own goroutine, one at a time; a slow report slows the run.
// Run returns when no step is running. The error is an *Error, or Validate's before anything ran.
func Run(ctx context.Context, p Plan, workers int, report func(Event)) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("invalid plan: %w", err)
	}
	if workers < 1 {
		return fmt.Errorf("invalid plan: %d workers, need at least 1", workers)
	}
	if report == nil {
		report = func(Event) {}
	}
	r := newRun(p, report)
	r.loop(ctx, workers)
	return r.result(ctx)
}

// stepKey is of the context that a step is given.
type stepKey struct{}

// StepName returns the name of the step that ctx was given to, or "" outside of a step.
func StepName(ctx context.Context) string {
	name, _ := ctx.Value(stepKey{}).(string)
	return name
}

// run is the state of one Run. Only Run's goroutine touches it; steps send to done.
type run struct {
	nodes   []node
	ready   queue
	running int
	done    chan outcome
	report  func(Event)
	failed  []Failure
}

type node struct {
	step       *Step
	pending    int   // dependencies that have not succeeded yet
	dependents []int // in plan order
	begun      time.Time
	over       bool // succeeded, failed or skipped
}

type outcome struct {
	node int
	err  error
}

func newRun(p Plan, report func(Event)) *run {
	r := &run{nodes: make([]node, len(p.Steps)), done: make(chan outcome), report: report}
	index := make(map[string]int, len(p.Steps))
	for i := range p.Steps {
		index[p.Steps[i].Name] = i
	}
	for i := range p.Steps {
		step := &p.Steps[i]
		r.nodes[i].step = step
		r.nodes[i].pending = len(step.Deps)
		for _, dep := range step.Deps {
			on := &r.nodes[index[dep]]
			on.dependents = append(on.dependents, i)
		}
		if len(step.Deps) == 0 {
			r.ready = append(r.ready, i) // ascending, so already a heap
		}
	}
	return r
}

func (r *run) loop(ctx context.Context, workers int) {
	for {
		for r.running < workers && len(r.ready) > 0 && ctx.Err() == nil {
			r.start(ctx, heap.Pop(&r.ready).(int))
		}
		if r.running == 0 {
			return
		}
		r.finish(<-r.done)
	}
}

func (r *run) start(ctx context.Context, i int) {
	n := &r.nodes[i]
	n.begun = time.Now()
	r.report(Event{Type: Started, Step: n.step, Time: n.begun})
	r.running++
	go func() {
		err := errors.New("the step ended its goroutine instead of returning") // unless something better is known below
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			r.done <- outcome{i, err}
		}()
		err = n.step.Do(context.WithValue(ctx, stepKey{}, n.step.Name))
	}()
}

func (r *run) finish(o outcome) {
	r.running--
	n := &r.nodes[o.node]
	n.over = true
	now := time.Now()
	event := Event{Type: Succeeded, Step: n.step, Time: now, Elapsed: now.Sub(n.begun), Err: o.err}
	if o.err != nil {
		event.Type = Failed
		r.failed = append(r.failed, Failure{Step: n.step.Name, Host: n.step.Host, Err: o.err})
		r.report(event)
		r.skipDependents(o.node)
		return
	}
	r.report(event)
	for _, d := range n.dependents {
		r.nodes[d].pending--
		if r.nodes[d].pending == 0 {
			heap.Push(&r.ready, d)
		}
	}
}

// skipDependents reports, in plan order, every step that now can never begin.
func (r *run) skipDependents(failed int) {
	why := fmt.Errorf("needs %q, which failed", r.nodes[failed].step.Name)
	lost := queue{failed}
	for len(lost) > 0 {
		for _, d := range r.nodes[heap.Pop(&lost).(int)].dependents {
			if n := &r.nodes[d]; !n.over {
				n.over = true
				heap.Push(&lost, d)
				r.report(Event{Type: Skipped, Step: n.step, Time: time.Now(), Err: why})
			}
		}
	}
}

// result skips what a cancellation kept from beginning, and sums up.
func (r *run) result(ctx context.Context) error {
	result := &Error{Failed: r.failed}
	for i := range r.nodes {
		if n := &r.nodes[i]; !n.over {
			n.over = true
			result.Cause = context.Cause(ctx)
			r.report(Event{Type: Skipped, Step: n.step, Time: time.Now(), Err: result.Cause})
		}
		if r.nodes[i].begun.IsZero() {
			result.Skipped++
		}
	}
	if len(result.Failed) == 0 && result.Skipped == 0 {
		return nil
	}
	if result.Cause == nil && ctx.Err() != nil {
		result.Cause = context.Cause(ctx)
	}
	return result
}

// queue is a heap of indices into the plan: the first in the plan comes out first.
type queue []int

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i] < q[j] }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(int)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
