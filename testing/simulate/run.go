package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// Run is one apply, or (Wish.Prove) one stage of a rotation.
type Run struct {
	// Wish is what is asked of it. NewKeys says that keys may take the place of others.
	provision.Wish
	NewKeys bool
	// Pause leaves a rotation in its stage, as --pause-after does.
	Pause bool
	// Lacks are resources that the provider lacks, whatever it is asked to make.
	Lacks []spec.ResourceChange
	// Filter alters its schedule, Sabotage its scripts, and Hears what they print: for tests that break an invariant.
	Filter   func([]plan.Step) []plan.Step
	Sabotage func(script string) string
	Hears    func(out string) string
	// Inspect is the preflight of new machines; nil finds nothing.
	Inspect func(context.Context, preflight.Input, map[string]host.Host) (preflight.Report, error)
	// Began is called once it can be killed.
	Began func()
	// AtStep is called before each step begins.
	AtStep func(name string)

	c       *Cluster
	id      int
	memory  *state.Memory
	variant Variant
	lies    bool
	session *provision.Session
	plan    *plan.Plan // what it carries out; empty where there is nothing to do
	end     context.CancelCauseFunc
	out     strings.Builder // all that it has said
	outMu   sync.Mutex

	// Guarded by the cluster's mu.
	store    *state.Store
	dead     bool
	alive    bool // it goes on as on a living cluster
	down     bool // it has proven that it is down
	asked    time.Time
	changes  int
	running  map[string]bool // steps that change something, and have begun
	finish   map[string]bool // those of them that had when its lock was stolen
	stolen   time.Time       // when that was; zero as long as it has the lock
	failed   []string        // events of steps that did not succeed
	disturbs map[string]time.Time
}

// NewRun makes a run that has not begun.
func NewRun(c *Cluster, id int, memory *state.Memory, v Variant) *Run {
	return &Run{c: c, id: id, memory: memory, variant: v, plan: &plan.Plan{}, disturbs: map[string]time.Time{}, running: map[string]bool{}}
}

var errKilled = errors.New("killed")

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
	store := r.store
	r.c.mu.Unlock()
	if store != nil {
		_ = store.Close() // it writes nothing from here on
	}
	r.end(errKilled)
}

// Steal takes the lock from the run, as from a computer that slept for longer than its lease lasts: what it has begun may end.
func (r *Run) Steal() {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.note("run %d has lost the lock", r.id)
	r.finish, r.stolen = maps.Clone(r.running), time.Now()
	r.memory.Steal()
}

// changed counts what the run changes, with a command that it gave at a time: a host may come to it later. mu is held.
func (r *Run) changed(given time.Time) {
	r.changes++
	if !r.stolen.IsZero() && given.After(r.stolen) && len(r.finish) == 0 {
		r.c.violate("stolen: run %d changes something, and had lost the lock before it began to", r.id)
	}
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

// said is all that the run has printed.
func (r *Run) said() string {
	r.outMu.Lock()
	defer r.outMu.Unlock()
	return r.out.String()
}

// tag tells what is asked for by one step of a run from what others ask for.
func tag(ctx context.Context, r *Run) string { return fmt.Sprint(r.id, " ", dag.StepName(ctx)) }

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
	if piece := r.c.leaked(r.said()); piece != "" {
		r.c.violate("secret: run %d has printed a key (%.6s...)", r.id, piece)
	}
	return err
}

// apply does what the command does: it takes the lock, finds out which cluster the state is of, and runs a session.
func (r *Run) apply(ctx context.Context) error {
	at := state.Options{Memory: r.memory}
	store, err := state.Open(ctx, at)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // it is in memory
	r.c.mu.Lock()
	r.store = store
	r.c.mu.Unlock()
	cluster := r.variant.Input.Cluster
	record, err := provision.ReadRecord(ctx, store, cluster, at)
	if err != nil {
		return err
	}
	r.session = &provision.Session{
		Cluster: cluster, File: "cluster.yaml", SpecPath: "-", Version: "sim", Record: record, Store: store, Machines: machines{r},
		Bundle: func(_ context.Context, arch string) (stack.Set, []string, error) {
			set, ok := r.variant.Input.Artifacts[arch]
			if !ok {
				return nil, nil, fmt.Errorf("no bundle can be made for %s", arch)
			}
			return set, nil, nil
		},
		Arch: "amd64", UI: operator{r}, Dial: r.dialAll, Reach: reach{r}, Inspect: r.Inspect, Parallelism: parallelism, Wish: r.Wish,
	}
	if !r.variant.fresh {
		r.session.Wishes = r.c.shape.memo
	}
	r.learn(record.Up)
	if err := r.session.Preflight(ctx); err != nil {
		return err
	}
	if err := r.session.Apply(ctx); err != nil || r.Prove != plan.ProveStage || r.Pause {
		return err
	}
	stored, err := keys.Load(ctx, store)
	if err != nil {
		return err
	}
	_, err = r.session.NextStage(ctx, stored.Rotation, slices.Sorted(maps.Keys(r.session.Observed().Nodes)), "certs rotate-ca")
	return err
}

// parallelism is how many steps run at a time.
const parallelism = 64

// machines are those of a cluster, which are all there: one that is off cannot be reached.
type machines struct{ run *Run }

// Find implements provision.Machines.
func (m machines) Find(context.Context) (*spec.Infrastructure, error) { return m.infrastructure(), nil }

func (m machines) infrastructure() *spec.Infrastructure {
	in := m.run.variant.Input
	infra := &spec.Infrastructure{Machines: in.Machines, Endpoint: in.Endpoint, States: map[string]string{}}
	for _, machine := range in.Machines {
		infra.States[machine.Name] = spec.MachineRunning
	}
	return infra
}

// Ensure implements provision.Machines.
func (m machines) Ensure(_ context.Context, _ []string, _ func(name, what string)) (*spec.Infrastructure, error) {
	return m.infrastructure(), nil
}

// Plan implements provision.Machines.
func (m machines) Plan(context.Context, []string) ([]spec.ResourceChange, error) {
	return m.run.Lacks, nil
}

// dialAll connects to all hosts side by side.
func (r *Run) dialAll(ctx context.Context, to []spec.Machine) (hosts map[string]host.Host, closeAll func(), failed map[string]error) {
	conns, errs := make([]*Conn, len(to)), make([]error, len(to))
	var all sync.WaitGroup
	for i, m := range to {
		all.Go(func() { conns[i], errs[i] = r.dial(ctx, r.c.hosts[m.Name]) })
	}
	all.Wait()
	hosts, failed = map[string]host.Host{}, map[string]error{}
	for i, m := range to {
		if errs[i] != nil {
			failed[m.Name] = errs[i]
		} else {
			hosts[m.Name] = conns[i]
		}
	}
	return hosts, func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}, failed
}

// operator is the person before a run, who agrees to everything.
type operator struct{ run *Run }

var _ provision.UI = operator{}

// Phase implements provision.UI.
func (o operator) Phase(string) {}

// Host implements provision.UI.
func (o operator) Host(host, what string) { o.run.say(host, ": ", what) }

// Note implements provision.UI.
func (o operator) Note(text string) { o.run.say(text) }

// Confirm implements provision.UI.
func (o operator) Confirm(_ context.Context, p *plan.Plan) error {
	text, err := json.Marshal(p)
	o.run.say(string(text))
	if o.run.Filter != nil {
		p.Steps = o.run.Filter(p.Steps)
	}
	o.run.plan = p
	return err
}

// Begin implements provision.UI.
func (o operator) Begin(p *plan.Plan) error {
	o.run.c.mu.Lock()
	o.run.alive = p.Alive
	o.run.c.mu.Unlock()
	o.run.learnAgain()
	return nil
}

var eventNames = map[dag.EventType]string{dag.Started: "begins", dag.Succeeded: "has done", dag.Failed: "failed to", dag.Skipped: "skips"}

// Step implements provision.UI. A control plane whose node was waited for is taken for well.
func (o operator) Step(e dag.Event) {
	r := o.run
	if e.Type == dag.Started && r.AtStep != nil {
		r.AtStep(e.Step.Name)
	}
	step := r.step(e.Step.Name)
	verb := step.Verb
	if e.Type == dag.Succeeded && (verb == plan.RecordUp || verb == plan.MarkInitialized) {
		r.learnAgain()
	}
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
	if e.Type == dag.Started && step.Writes() {
		r.running[step.Name] = true
	} else {
		delete(r.running, step.Name)
		delete(r.finish, step.Name)
	}
	switch h := r.c.hosts[e.Step.Host]; {
	case e.Type != dag.Succeeded:
	case verb == plan.ProveDown:
		r.provenDown()
	case h != nil && verb == plan.EnsureNode:
		r.seen(h)
	}
}

// step is one of the plan.
func (r *Run) step(name string) plan.Step {
	for _, s := range r.plan.Steps {
		if s.Name == name {
			return s
		}
	}
	return plan.Step{}
}

// learnAgain reads what the state knows of the cluster.
func (r *Run) learnAgain() {
	if id, err := identity(context.Background(), r.store); err == nil {
		r.learn(id.Up)
	}
}

// learn takes from the state what invariants are about: whether the cluster has been up, and who has joined.
func (r *Run) learn(up *plan.Up) {
	if up == nil {
		return
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.up = true
	for name, m := range up.ControlPlanes {
		r.c.joined[name] = r.c.joined[name] || m.Joined
	}
}
