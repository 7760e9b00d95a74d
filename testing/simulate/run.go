package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
)

// Store is what an operator's state keeps of a cluster.
type Store struct {
	mu       sync.Mutex
	identity plan.Identity
	held     *Run // who has the lock
	open     bool // it keeps nobody out
}

// NewStore is the state of a cluster that has not been up.
func NewStore(shape *Shape) *Store {
	in := shape.Variants[0].Input
	return &Store{identity: plan.Identity{UID: in.UID, Name: in.Cluster.Metadata.Name}}
}

// Run is one apply.
type Run struct {
	c       *Cluster
	id      int
	store   *Store
	variant Variant
	// Prove is what it proves in the end. NewKeys says that keys may take the place of others.
	Prove   plan.Proving
	NewKeys bool
	// Filter alters its schedule, Sabotage its scripts, and Hears what they print: for tests that break an invariant.
	Filter   func([]plan.Step) []plan.Step
	Sabotage func(script string) string
	Hears    func(out string) string
	// Began is called once it can be killed.
	Began func()
	// AtStep is called before each step begins.
	AtStep func(ctx context.Context, s plan.Step)

	lies  bool
	look  converge.Observer
	view  *converge.View
	plan  *plan.Plan // the first that it made
	end   context.CancelCauseFunc
	out   strings.Builder // all that it has said
	outMu sync.Mutex

	// Guarded by the cluster's mu.
	dead     bool
	alive    bool // it goes on as on a living cluster
	down     bool // it has proven that it is down
	asked    time.Time
	changes  int
	failed   []string // events of steps that did not succeed
	disturbs map[string]time.Time
}

// NewRun makes a run that has not begun.
func NewRun(c *Cluster, id int, store *Store, v Variant) *Run {
	return &Run{c: c, id: id, store: store, variant: v, disturbs: map[string]time.Time{}}
}

var (
	errLocked = errors.New("another slipway is at work on this cluster")
	errKilled = errors.New("killed")
)

// Kill ends the run as SIGKILL does: whatever its hosts have begun goes on.
func (r *Run) Kill() {
	r.c.mu.Lock()
	r.dead = true
	for _, h := range r.c.order {
		for _, k := range h.conns {
			if k.run == r {
				k.cut("slipway was killed")
			}
		}
	}
	r.c.note("run %d is killed", r.id)
	r.c.mu.Unlock()
	r.store.release(r)
	r.end(errKilled)
}

// Interrupt is one Ctrl-C.
func (r *Run) Interrupt() {
	r.c.mu.Lock()
	r.c.note("run %d is interrupted", r.id)
	r.c.mu.Unlock()
	r.end(context.Canceled)
}

// say keeps what the run prints.
func (r *Run) say(words ...string) {
	r.outMu.Lock()
	defer r.outMu.Unlock()
	for _, w := range words {
		r.out.WriteString(w)
	}
	r.out.WriteByte('\n')
}

type tagKey struct{}

// tag tells what is asked for by one step of a run from what others ask for.
func tag(ctx context.Context, r *Run) string {
	name, _ := ctx.Value(tagKey{}).(string)
	return fmt.Sprint(r.id, " ", name)
}

// pause lets time pass in a run: between least and twice as long.
func (r *Run) pause(ctx context.Context, name string, least time.Duration) error {
	timer := time.NewTimer(r.c.takes(tag(ctx, r)+" "+name, least))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.dead {
		return errKilled
	}
	return nil
}

// Apply makes the cluster as the run's variant wants it, as `slipway apply` does. It checks what it says about itself.
func (r *Run) Apply(ctx context.Context) error {
	ctx, r.end = context.WithCancelCause(ctx)
	defer r.end(nil)
	if r.Began != nil {
		r.Began()
	}
	if !r.store.take(r) {
		return errLocked
	}
	defer r.store.release(r)
	err := r.apply(ctx)
	if err != nil && r.lies {
		err = fmt.Errorf("nothing was changed: %w", err)
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	slices.Sort(r.failed)
	for _, line := range r.failed {
		r.c.note("%s", line)
	}
	r.c.note("run %d ends, well: %t", r.id, err == nil)
	if err != nil {
		r.say(err.Error())
		if strings.Contains(err.Error(), "nothing was changed") && r.changes > 0 {
			r.c.violate("words: run %d says that nothing was changed, and has changed %d times: %v", r.id, r.changes, err)
		}
	}
	if piece := r.c.shape.leaked(r.out.String()); piece != "" {
		r.c.violate("secret: run %d has printed a key (%.6s...)", r.id, piece)
	}
	return err
}

func (r *Run) apply(ctx context.Context) error {
	hosts, held := r.dialAll(ctx)
	defer func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(hosts) == 0 {
		return errors.New("no machine can be reached; nothing was changed")
	}
	in := r.variant.Input
	r.look = converge.Observer{
		Input: in, Changing: true, Held: held, Prove: r.Prove, Reach: reach{r}, Report: func(host, what string) { r.say(host, ": ", what) },
	}
	if r.variant.desired.Hosts != nil {
		r.look.Wishes = r.variant
	}
	todo, err := r.observe(ctx, hosts)
	if err != nil {
		return err
	}
	r.plan = todo
	if todo.Empty() {
		return errors.Join(r.recordLiving(ctx, todo), heldBy(todo))
	}
	if err := r.recordLiving(ctx, todo); err != nil {
		return err
	}
	if err := r.carryOut(ctx, todo); err != nil {
		return err
	}
	return r.verify(ctx, hosts)
}

// dialAll connects to all hosts side by side. Those that cannot be reached are held.
func (r *Run) dialAll(ctx context.Context) (map[string]host.Host, map[string][]string) {
	conns, errs := make([]*Conn, len(r.c.order)), make([]error, len(r.c.order))
	var all sync.WaitGroup
	for i, h := range r.c.order {
		all.Go(func() { conns[i], errs[i] = r.dial(ctx, h) })
	}
	all.Wait()
	hosts, held := map[string]host.Host{}, map[string][]string{}
	for i, h := range r.c.order {
		if errs[i] != nil {
			held[h.name] = []string{"it cannot be reached: " + errs[i].Error()}
		} else {
			hosts[h.name] = conns[i]
		}
	}
	return hosts, held
}

func (r *Run) observe(ctx context.Context, hosts map[string]host.Host) (*plan.Plan, error) {
	r.store.mu.Lock()
	id := r.store.identity
	r.store.mu.Unlock()
	r.look.Input.BeenUp, r.look.Before.Up = id.Up != nil, id.Up
	view, err := r.look.Look(context.WithValue(ctx, tagKey{}, "observe"), hosts)
	if err != nil {
		return nil, err
	}
	r.view = view
	s := view.Situation
	if err := s.Enough(); err != nil {
		return nil, err
	}
	if r.Prove == plan.ProveStage && len(s.Held) > 0 {
		return nil, &plan.HeldError{Held: s.Held}
	}
	p := plan.NewPlan("sim", s)
	if r.Filter != nil {
		p.Steps = r.Filter(p.Steps)
	}
	text, err := json.Marshal(p)
	r.say(string(text))
	return p, err
}

func (r *Run) recordLiving(ctx context.Context, todo *plan.Plan) error {
	if !todo.Alive {
		return nil
	}
	return r.view.RecordLiving(ctx, r.record)
}

// steps is how many run at a time.
const steps = 64

func (r *Run) carryOut(ctx context.Context, todo *plan.Plan) error {
	r.c.mu.Lock()
	r.alive = todo.Alive
	r.c.mu.Unlock()
	runner := converge.Runner{View: *r.view, Record: r.record, Holds: r.holds}
	bound := runner.Bind(todo.Steps)
	for i := range bound.Steps {
		s, do := todo.Steps[i], bound.Steps[i].Do
		bound.Steps[i].Do = func(ctx context.Context) error {
			if r.AtStep != nil {
				r.AtStep(ctx, s)
			}
			return do(context.WithValue(ctx, tagKey{}, s.Name))
		}
	}
	return dag.Run(ctx, bound, steps, r.event)
}

var eventNames = map[dag.EventType]string{dag.Started: "begins", dag.Succeeded: "has done", dag.Failed: "failed to", dag.Skipped: "skips"}

// event hears of a step. A control plane whose node was waited for is taken for well.
func (r *Run) event(e dag.Event) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if line := fmt.Sprintf("run %d: %s %s", r.id, eventNames[e.Type], e.Step.Name); e.Type == dag.Started || e.Type == dag.Succeeded {
		r.c.note("%s", line)
	} else { // what a cancellation ends ends at one moment, in any order
		r.failed = append(r.failed, fmt.Sprintf("%s at %s", line, e.Time.UTC().Format(clock)))
	}
	if e.Err != nil {
		r.say(e.Step.Name, ": ", e.Err.Error())
	}
	switch h := r.c.hosts[e.Step.Host]; {
	case e.Type != dag.Succeeded:
	case e.Step.Name == "cluster: check that it is down":
		r.provenDown()
	case h != nil && strings.HasSuffix(e.Step.Name, ": wait for the node"):
		r.seen(h)
	}
}

// verify observes again, for a minute as long as only nodes are not Ready.
func (r *Run) verify(ctx context.Context, hosts map[string]host.Host) error {
	limit := time.Now().Add(time.Minute)
	for {
		left, err := r.observe(ctx, hosts)
		if err != nil {
			return err
		}
		other := slices.ContainsFunc(left.Changes, func(c plan.Change) bool { return c.Kind != plan.NodeChange })
		if len(left.Changes) == 0 && left.APIError == "" {
			return heldBy(left)
		}
		if other || left.APIError != "" || time.Now().After(limit) {
			lines := []string{"after all steps had run, this still differed: " + left.APIError}
			for _, c := range left.Changes {
				lines = append(lines, c.String())
			}
			return errors.New(strings.Join(lines, "\n  "))
		}
		if err := r.pause(ctx, "settle", time.Second); err != nil {
			return err
		}
	}
}

func heldBy(p *plan.Plan) error {
	if len(p.Held) == 0 {
		return nil
	}
	return &plan.HeldError{Held: p.Held}
}

// record changes the identity in the state.
func (r *Run) record(_ context.Context, change func(*plan.Up) *plan.Up) error {
	if err := r.holds(context.Background()); err != nil {
		return err
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	r.store.identity = r.store.identity.Recorded("", change)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if up := r.store.identity.Up; up != nil {
		r.c.up = true
		for name, m := range up.ControlPlanes {
			r.c.joined[name] = r.c.joined[name] || m.Joined
		}
	}
	return nil
}

func (r *Run) holds(context.Context) error {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if r.store.held != r && !r.store.open {
		return errLocked
	}
	return nil
}

func (s *Store) take(r *Run) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = r
	}
	return s.held == r || s.open
}

func (s *Store) release(r *Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == r {
		s.held = nil
	}
}
