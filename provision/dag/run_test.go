package dag

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Every test runs Run inside a synctest bubble: time is virtual, and a goroutine that Run leaves behind fails the test.

// steps parses "name: dep dep" lines into a plan whose steps do what do says, or sleep a second.
func steps(t *testing.T, text string, do map[string]func(context.Context) error) Plan {
	t.Helper()
	var p Plan
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		name, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		run := do[name]
		if run == nil {
			run = func(context.Context) error { time.Sleep(time.Second); return nil }
		}
		p.Steps = append(p.Steps, Step{Name: name, Host: "h-" + name, Deps: strings.Fields(deps), Do: run})
	}
	return p
}

var eventNames = map[EventType]string{Started: "+", Succeeded: "ok", Failed: "FAILED", Skipped: "skipped"}

func record(events *[]string) func(Event) {
	return func(e Event) { *events = append(*events, eventNames[e.Type]+" "+e.Step.Name) }
}

func TestRun(t *testing.T) {
	fail := func(context.Context) error { time.Sleep(time.Second); return errors.New("broken") }
	tests := []struct {
		name    string
		plan    string
		do      map[string]func(context.Context) error
		workers int
		events  string
		took    time.Duration
		err     string
	}{
		{name: "empty", plan: "", workers: 1},
		{
			name: "plan order with one worker", plan: "c:\nb: a\na:\nd: c", workers: 1, took: 4 * time.Second,
			events: "+ c, ok c, + a, ok a, + b, ok b, + d, ok d",
		},
		{
			name: "side by side", plan: "a:\nb:\nc: a b", workers: 8, took: 2 * time.Second,
		},
		{
			name: "a dependency named twice", plan: "a:\nb: a a", workers: 1, took: 2 * time.Second,
			events: "+ a, ok a, + b, ok b",
		},
		{
			name: "failure skips dependents only", plan: "a:\nb: a\nc: b\nd:\ne: d\nf: c e", workers: 1, took: 3 * time.Second,
			do:     map[string]func(context.Context) error{"a": fail},
			events: "+ a, FAILED a, skipped b, skipped c, skipped f, + d, ok d, + e, ok e",
			err:    "1 step failed, 3 steps not begun\n  a: broken",
		},
		{
			name: "every failure is named", plan: "a:\nb:\nc: a b", workers: 1, took: 2 * time.Second,
			do:     map[string]func(context.Context) error{"a": fail, "b": fail},
			events: "+ a, FAILED a, skipped c, + b, FAILED b",
			err:    "2 steps failed, 1 step not begun\n  a: broken\n  b: broken",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := steps(t, tt.plan, tt.do)
				if tt.plan == "" {
					p = Plan{}
				}
				var events []string
				begin := time.Now()
				err := Run(t.Context(), p, tt.workers, record(&events))
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if got := strings.Join(events, ", "); tt.events != "" && got != tt.events {
					t.Errorf("events\n got %s\nwant %s", got, tt.events)
				}
				if got := fmt.Sprint(err); (err != nil || tt.err != "") && got != tt.err {
					t.Errorf("error\n got %s\nwant %s", got, tt.err)
				}
			})
		})
	}
}

func TestRunRefusesInvalidPlans(t *testing.T) {
	nop := func(context.Context) error { t.Error("a step ran"); return nil }
	tests := map[string]struct {
		plan    Plan
		workers int
		want    []string
	}{
		"no name":    {Plan{[]Step{{Do: nop}}}, 1, []string{"step 1 has no name"}},
		"no work":    {Plan{[]Step{{Name: "a"}}}, 1, []string{`"a" has nothing to do`}},
		"twice":      {Plan{[]Step{{Name: "a", Do: nop}, {Name: "a", Do: nop}}}, 1, []string{`"a" is in the plan twice`}},
		"unknown":    {Plan{[]Step{{Name: "a", Deps: []string{"x", "y"}, Do: nop}}}, 1, []string{`depends on "x"`, `depends on "y"`}},
		"itself":     {Plan{[]Step{{Name: "a", Deps: []string{"a"}, Do: nop}}}, 1, []string{"a -> a"}},
		"no workers": {Plan{[]Step{{Name: "a", Do: nop}}}, 0, []string{"0 workers"}},
		"cycle": {Plan{[]Step{
			{Name: "start", Deps: []string{"a"}, Do: nop},
			{Name: "a", Deps: []string{"b"}, Do: nop},
			{Name: "b", Deps: []string{"c"}, Do: nop},
			{Name: "c", Deps: []string{"a"}, Do: nop},
		}}, 1, []string{"a -> b -> c -> a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Run(t.Context(), tt.plan, tt.workers, func(e Event) { t.Errorf("event %+v", e) })
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "start ->") {
				t.Errorf("error %q names a step outside the cycle", err)
			}
		})
	}
}

func TestRunCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("interrupted by the user")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cleaned := false
		p := steps(t, "quick:\nslow:\nnext: quick\nlast: slow", map[string]func(context.Context) error{
			"quick": func(context.Context) error { time.Sleep(3 * time.Second); return nil }, // ignores ctx, succeeds
			"slow": func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second) // Run must wait for this
				cleaned = true
				return context.Cause(ctx)
			},
		})
		time.AfterFunc(time.Second, func() { cancel(why) })
		var events []string
		err := Run(ctx, p, 4, record(&events))
		if !cleaned {
			t.Error("Run returned while a step was running")
		}
		if got, want := strings.Join(events, ", "), "+ quick, + slow, FAILED slow, skipped last, ok quick, skipped next"; got != want {
			t.Errorf("events\n got %s\nwant %s", got, want)
		}
		if !errors.Is(err, why) {
			t.Errorf("error %v does not carry the cause", err)
		}
		var e *Error
		if !errors.As(err, &e) || e.Skipped != 2 || len(e.Failed) != 1 || e.Failed[0].Step != "slow" || e.Failed[0].Host != "h-slow" {
			t.Errorf("error %#v", err)
		}
	})
}

func TestRunCancelledBeforehand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var events []string
		err := Run(ctx, steps(t, "a:\nb: a", nil), 1, record(&events))
		if got := strings.Join(events, ", "); got != "skipped a, skipped b" {
			t.Errorf("events %s", got)
		}
		if err == nil || err.Error() != "cancelled (context canceled): 2 steps not begun" || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRunCancelledTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := steps(t, "a:", map[string]func(context.Context) error{"a": func(context.Context) error { cancel(); return nil }})
		if err := Run(ctx, p, 1, nil); err != nil {
			t.Errorf("all is done, yet %v", err)
		}
	})
}

// A step knows its own name; outside of one there is none.
func TestStepName(t *testing.T) {
	var inside string
	p := Plan{Steps: []Step{{Name: "a", Do: func(ctx context.Context) error { inside = StepName(ctx); return nil }}}}
	if err := Run(t.Context(), p, 1, nil); err != nil || inside != "a" || StepName(t.Context()) != "" {
		t.Errorf("inside it is %q, outside %q, error %v", inside, StepName(t.Context()), err)
	}
}

func TestRunSurvivesPanicAndGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steps(t, "a:\nb:\nc:", map[string]func(context.Context) error{
			"a": func(context.Context) error { panic("boom") },
			"b": func(context.Context) error { runtime.Goexit(); return nil },
		})
		var events []string
		err := Run(t.Context(), p, 1, record(&events))
		if got := strings.Join(events, ", "); got != "+ a, FAILED a, + b, FAILED b, + c, ok c" {
			t.Errorf("events %s", got)
		}
		var panicked *PanicError
		if !errors.As(err, &panicked) || panicked.Value != "boom" {
			t.Fatalf("error %v", err)
		}
		if !strings.Contains(string(panicked.Stack), "run_test.go") {
			t.Errorf("stack does not reach the step:\n%s", panicked.Stack)
		}
	})
}

func TestEventTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var last Event
		_ = Run(t.Context(), steps(t, "a:\nb: a", nil), 1, func(e Event) { last = e })
		if last.Step.Name != "b" || last.Elapsed != time.Second || last.Time.Sub(begin) != 2*time.Second {
			t.Errorf("last event %+v", last)
		}
	})
}

// TestRandomPlans checks on random graphs what Run promises, whatever the graph.
func TestRandomPlans(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			workers := 1 + random.IntN(6)
			w := &watcher{finished: map[string]bool{}}
			p := randomPlan(random, w)
			events := map[string][]EventType{}
			err := Run(t.Context(), p, workers, func(e Event) { events[e.Step.Name] = append(events[e.Step.Name], e.Type) })
			if w.most > workers {
				t.Errorf("seed %d: %d steps at once with %d workers", seed, w.most, workers)
			}
			for _, problem := range w.problems {
				t.Errorf("seed %d: %s", seed, problem)
			}
			checkEvents(t, seed, p, events, err)
		})
	}
}

// checkEvents: a step is skipped if and only if something it needs, directly or not, failed; all else ran once.
func checkEvents(t *testing.T, seed uint64, p Plan, events map[string][]EventType, err error) {
	t.Helper()
	var result *Error
	failed := map[string]bool{}
	if errors.As(err, &result) {
		for _, f := range result.Failed {
			failed[f.Step] = true
		}
	}
	lost := map[string]bool{}
	for changed := true; changed; {
		changed = false
		for _, s := range p.Steps {
			if !lost[s.Name] && slices.ContainsFunc(s.Deps, func(d string) bool { return failed[d] || lost[d] }) {
				lost[s.Name], changed = true, true
			}
		}
	}
	for _, s := range p.Steps {
		want := []EventType{Started, Succeeded}
		switch {
		case lost[s.Name]:
			want = []EventType{Skipped}
		case failed[s.Name]:
			want = []EventType{Started, Failed}
		}
		if !slices.Equal(events[s.Name], want) {
			t.Errorf("seed %d: %s had events %v, want %v", seed, s.Name, events[s.Name], want)
		}
	}
	if result != nil && result.Skipped != len(lost) {
		t.Errorf("seed %d: %d skipped, want %d", seed, result.Skipped, len(lost))
	}
	if result == nil && (err != nil || len(failed) > 0) {
		t.Errorf("seed %d: error %v", seed, err)
	}
}

func TestOneWorkerIsDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		var first []string
		for range 5 {
			synctest.Test(t, func(t *testing.T) {
				p := randomPlan(rand.New(rand.NewPCG(seed, 2)), &watcher{finished: map[string]bool{}})
				var events []string
				_ = Run(t.Context(), p, 1, record(&events))
				if first == nil {
					first = events
				}
				if !slices.Equal(first, events) {
					t.Fatalf("seed %d: two runs differ\n%v\n%v", seed, first, events)
				}
			})
		}
	}
}

// watcher is told by every step when it begins and ends.
type watcher struct {
	mu       sync.Mutex
	running  int
	most     int
	finished map[string]bool
	problems []string
}

func randomPlan(random *rand.Rand, w *watcher) Plan {
	n := 1 + random.IntN(40)
	order := random.Perm(n) // a step depends only on steps earlier in this order, so there is no cycle
	p := Plan{Steps: make([]Step, n)}
	for at, i := range order {
		s := &p.Steps[i]
		s.Name = fmt.Sprintf("s%d", i)
		for _, j := range order[:at] {
			if random.IntN(8) == 0 {
				s.Deps = append(s.Deps, fmt.Sprintf("s%d", j))
			}
		}
		takes, fails := time.Duration(random.IntN(5))*time.Millisecond, random.IntN(25) == 0
		s.Do = func(context.Context) error { return w.step(s, takes, fails) }
	}
	return p
}

func (w *watcher) step(s *Step, takes time.Duration, fails bool) error {
	w.mu.Lock()
	w.running++
	w.most = max(w.most, w.running)
	for _, d := range s.Deps {
		if !w.finished[d] {
			w.problems = append(w.problems, fmt.Sprintf("%s began before %s had succeeded", s.Name, d))
		}
	}
	w.mu.Unlock()
	time.Sleep(takes)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	if fails {
		return errors.New("random failure")
	}
	w.finished[s.Name] = true
	return nil
}

func BenchmarkRun(b *testing.B) {
	p := Plan{}
	for i := range 1000 {
		s := Step{Name: fmt.Sprint(i), Do: func(context.Context) error { return nil }}
		if i >= 10 {
			s.Deps = []string{fmt.Sprint(i - 10)}
		}
		p.Steps = append(p.Steps, s)
	}
	for b.Loop() {
		if err := Run(b.Context(), p, 8, nil); err != nil {
			b.Fatal(err)
		}
	}
}
