package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/state"
)

// Options break slipway on purpose, where they are set: a simulation that finds nothing then is worth nothing.
type Options struct {
	Filter   func([]plan.Step) []plan.Step
	Sabotage func(script string) string
	// Hears alters what scripts print.
	Hears func(out string) string
	// Lies has a run say that nothing was changed, whenever it fails.
	Lies bool
	// Unlocked lets two operators be at work at once. Talks says what a run prints beside.
	Unlocked bool
	Talks    func(*Shape) string
	// Trace keeps all that has happened.
	Trace bool
}

// Result is what came of a seed.
type Result struct {
	// Broken are the invariants that did not hold, in the order in which that was found.
	Broken []string
	// Sum is of the whole course of events: two runs of a seed have the same. The order of what happens
	// in one instant does not count.
	Sum   uint64
	Trace []string
	Runs  int
}

// Simulate has a seed decide what happens to a cluster, and how slipway fares. It has to be called in a bubble of
// testing/synctest.
func Simulate(ctx context.Context, shapes []*Shape, seed uint64, o Options) Result {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: to be had again
	s := shapes[random.IntN(len(shapes))]
	c := NewCluster(s, seed)
	memory, err := NewMemory(s)
	if err != nil {
		return Result{Broken: []string{err.Error()}}
	}
	memory.Unlocked = o.Unlocked
	c.trace.keep = o.Trace
	sim := &simulation{world: &world{c: c, rand: random}, memory: memory, shape: s, options: o, ctx: ctx}
	c.note("seed %d: %d control planes, %d workers", seed, s.ControlPlanes, s.Workers)
	if random.IntN(2) == 0 { // a cluster that is well to begin with
		if err := sim.newRun().Apply(ctx); err != nil {
			c.broken = append(c.broken, "begin: the first apply failed: "+err.Error())
		}
	}
	for range 1 + random.IntN(4) {
		sim.round()
	}
	sim.last()
	c.End()
	c.mu.Lock()
	defer c.mu.Unlock()
	return Result{Broken: c.broken, Sum: c.trace.sum, Trace: c.trace.Lines, Runs: sim.runs}
}

type simulation struct {
	*world
	memory  *state.Memory
	shape   *Shape
	options Options
	ctx     context.Context
	variant int
	runs    int
	// rotation is the one under way, nil for none; rotated says that there has been one.
	rotation *certs.Rotation
	rotated  bool
}

func (s *simulation) newRun() *Run {
	s.runs++
	v := s.shape.Variants[s.variant]
	r := NewRun(s.c, s.runs, s.memory, v)
	r.NewKeys = s.rotated
	r.lies = s.options.Lies
	if s.options.Talks != nil {
		r.say(s.options.Talks(s.shape))
	}
	r.Filter, r.Sabotage, r.Hears = s.options.Filter, s.options.Sabotage, s.options.Hears
	return r
}

// start begins a run, of the rotation under way or a plain apply, and returns it once it can be killed.
func (s *simulation) start(stage bool) (r *Run, done chan struct{}) {
	r, done = s.newRun(), make(chan struct{})
	if stage {
		r.Prove = plan.ProveStage
	}
	began := make(chan struct{})
	r.Began = func() { close(began) }
	go func() {
		defer close(done)
		_ = r.Apply(s.ctx) // whatever it is: what it says was looked at
	}()
	<-began
	return r, done
}

// round is one run, and what happens before it and meanwhile. A second operator may try, too; sometimes nobody is patient.
func (s *simulation) round() {
	if s.rand.IntN(3) == 0 {
		s.variant = s.rand.IntN(len(s.shape.Variants))
	}
	for range s.rand.IntN(3) {
		s.strike()
		time.Sleep(s.span(time.Millisecond, 10*time.Second))
	}
	if s.rotation != nil || s.rand.IntN(12) == 0 {
		s.rotate()
	}
	r, done := s.start(s.rotation != nil && s.rand.IntN(3) > 0)
	for range s.rand.IntN(4) {
		if !s.wait(done, s.span(time.Millisecond, 30*time.Second)) {
			break
		}
		s.strike()
	}
	switch s.rand.IntN(7) {
	case 0, 1:
		if s.wait(done, s.span(time.Millisecond, 30*time.Second)) {
			r.Kill()
		}
	case 2:
		if s.wait(done, s.span(time.Millisecond, 30*time.Second)) {
			r.Interrupt()
		}
	case 3:
		s.second(done)
	case 4:
		if s.wait(done, s.span(time.Millisecond, 30*time.Second)) {
			r.Steal()
		}
	}
	<-done
	s.recall()
}

// wait is true where a run still goes on after some time.
func (s *simulation) wait(done chan struct{}, d time.Duration) bool {
	select {
	case <-done:
		return false
	case <-time.After(d):
		return true
	}
}

// second is another operator, who must change nothing while the first is at work.
func (s *simulation) second(done chan struct{}) {
	if !s.wait(done, s.span(time.Millisecond, 10*time.Second)) {
		return
	}
	r := s.newRun()
	err := r.Apply(s.ctx)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	select {
	case <-done:
	default:
		if err == nil || r.changes > 0 {
			s.c.violate("lock: run %d began while another was at work", r.id)
		}
	}
}

// last has all healed: one apply ends well then, and a second has nothing to do.
func (s *simulation) last() {
	s.heal()
	time.Sleep(5 * time.Minute)
	for s.rotation != nil {
		r := s.newRun()
		r.Prove = plan.ProveStage
		if err := r.Apply(s.ctx); err != nil {
			s.c.mu.Lock()
			defer s.c.mu.Unlock()
			s.c.violate("end: the %v is not reached: %v", s.rotation, err)
			return
		}
		s.recall()
	}
	for i, name := range []string{"the last apply", "the one after it"} {
		r := s.newRun()
		err := r.Apply(s.ctx)
		s.c.mu.Lock()
		if err != nil {
			s.c.violate("end: %s failed: %v", name, err)
		} else if i > 0 && !r.plan.Empty() {
			s.c.violate("end: %s still had %d changes, the first is %v", name, len(r.plan.Changes), fmt.Sprint(r.plan.Changes[:min(1, len(r.plan.Changes))]))
		}
		s.c.mu.Unlock()
		if err != nil {
			return
		}
	}
}
