package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/state"
)

var _ Store = (*state.Store)(nil)

// memory is a Store whose writes take a while, and fail when told to.
type memory struct {
	mu      sync.Mutex
	items   map[string]secret.Bytes
	takes   time.Duration
	fail    error
	writes  int
	writing int
	most    int // writes at once
}

func newMemory() *memory { return &memory{items: map[string]secret.Bytes{}} }

func (m *memory) Put(_ context.Context, items map[string]secret.Bytes) error {
	m.mu.Lock()
	m.writing++
	m.writes++
	m.most = max(m.most, m.writing)
	takes := m.takes
	m.mu.Unlock()
	time.Sleep(takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writing--
	if m.fail == nil {
		maps.Copy(m.items, items)
	}
	return m.fail
}

func (m *memory) Get(_ context.Context, name string) (secret.Bytes, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.items[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memory) List(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.items))
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) }), nil
}

func (m *memory) Remove(_ context.Context, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range names {
		delete(m.items, n)
	}
	return nil
}

func start(t *testing.T, store Store) *Recorder {
	t.Helper()
	r, err := Start(t.Context(), store, Run{Cluster: "demo", Command: "apply", Operator: "ana@here", Slipway: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t *testing.T, store Store, number int, live bool) *Run {
	t.Helper()
	run, err := Get(t.Context(), store, number, live)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r := start(t, store)
		began := time.Now().UTC()
		install := plan.Step{Name: "a: install", Host: "a"}
		wait := plan.Step{Name: "a: wait", Host: "a", Deps: []string{"a: install"}}
		event := func(kind plan.EventType, s *plan.Step, err error) {
			r.Event(plan.Event{Type: kind, Step: s, Time: time.Now(), Err: err})
		}
		r.Phase("observe")
		time.Sleep(time.Second)
		r.Note("a", "nobody hears this")
		r.Plan(json.RawMessage(`{"x":1}`), []Step{
			{Name: install.Name, Host: "a", Kind: Change, Changes: []string{"+ file /x"}},
			{Name: wait.Name, Host: "a", Kind: Gate, Deps: wait.Deps},
		})
		r.Phase("converge")
		event(plan.Started, &install, nil)
		time.Sleep(time.Second)
		event(plan.Succeeded, &install, nil)
		event(plan.Started, &wait, nil)
		r.Note("a", "not ready")
		r.Note("a", "not ready")
		time.Sleep(time.Second)
		r.Note("a", "nearly ready")
		r.Note("b", "another host")
		synctest.Wait()
		if run := get(t, store, 1, true); run.Result != Running || run.Steps[1].State != Running || len(run.Steps[1].Notes) != 2 {
			t.Errorf("while it runs, the store has %+v", run)
		}
		failure := errors.New("a: timed out\nstderr: 1\nstderr: 2")
		event(plan.Failed, &wait, failure)
		if err := r.End(t.Context(), fmt.Errorf("1 step failed: %w", failure)); err != nil {
			t.Fatal(err)
		}
		r.Phase("too late")
		if err := r.End(t.Context(), nil); err != nil {
			t.Errorf("ended twice: %v", err)
		}
		at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
		want := &Run{
			Version: 1, Number: 1, Cluster: "demo", Command: "apply", Operator: "ana@here", Slipway: "v1", Began: at(0), Ended: at(3),
			Result: Failed, Error: "1 step failed: " + failure.Error(), Plan: json.RawMessage(`{"x":1}`),
			Phases: []Phase{{"observe", at(0), at(1)}, {"converge", at(1), at(3)}},
			Steps: []Step{
				{Name: "a: install", Host: "a", Kind: Change, Changes: []string{"+ file /x"}, State: Succeeded, Began: at(1), Ended: at(2)},
				{
					Name: "a: wait", Host: "a", Kind: Gate, Deps: []string{"a: install"}, State: Failed, Began: at(2), Ended: at(3),
					Error: failure.Error(), Notes: []Note{{at(2), "not ready"}, {at(3), "nearly ready"}},
				},
			},
		}
		if got := get(t, store, 1, true); !reflect.DeepEqual(got, want) {
			t.Errorf("recorded\n%+v\nwant\n%+v", got, want)
		}
	})
}

func TestEndResults(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx   context.Context
		steps []Step
		err   error
		want  State
	}{
		"nothing to do":     {t.Context(), nil, nil, Unchanged},
		"done":              {t.Context(), []Step{{Name: "a"}}, nil, Succeeded},
		"cancelled, but ok": {cancelled, []Step{{Name: "a"}}, nil, Succeeded},
		"failed":            {t.Context(), nil, errors.New("broken"), Failed},
		"interrupted":       {cancelled, []Step{{Name: "a"}}, errors.New("interrupted"), Interrupted},
	} {
		store := newMemory()
		r := start(t, store)
		r.Plan(nil, test.steps)
		if err := r.End(test.ctx, test.err); err != nil {
			t.Fatal(err)
		}
		if run := get(t, store, 1, false); run.Result != test.want || test.err != nil && run.Error != test.err.Error() {
			t.Errorf("%s: %s %q, want %s", name, run.Result, run.Error, test.want)
		}
	}
}

// TestRecorderCoalesces lets writes take longer than what happens meanwhile: nothing waits for them, never are there two
// at a time, and the last one has everything.
func TestRecorderCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r := start(t, store)
		store.mu.Lock()
		store.takes, store.writes = time.Second, 0
		store.mu.Unlock()
		begin := time.Now()
		for i := range 500 {
			r.Phase(fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("recording slowed the run: it took %v", took)
		}
		if err := r.End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if store.most != 1 || store.writes < 5 || store.writes > 7 {
			t.Errorf("%d writes, %d at once", store.writes, store.most)
		}
		if n := len(get(t, store, 1, true).Phases); n != 500 {
			t.Errorf("the last write has %d phases", n)
		}
	})
}

func TestEndGivesWriteErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r := start(t, store)
		broken := errors.New("disk full")
		store.mu.Lock()
		store.fail = broken
		store.mu.Unlock()
		r.Phase("observe")
		synctest.Wait()
		if err := r.End(t.Context(), nil); !errors.Is(err, broken) || !strings.Contains(err.Error(), "record run 1") {
			t.Errorf("End gave %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that went by left nothing out
		store := newMemory()
		r := start(t, store)
		store.fail = errors.New("busy")
		r.Phase("observe")
		synctest.Wait()
		store.mu.Lock()
		store.fail = nil
		store.mu.Unlock()
		if err := r.End(t.Context(), nil); err != nil || len(get(t, store, 1, true).Phases) != 1 {
			t.Errorf("End gave %v", err)
		}
	})
}

// TestCrash leaves a run without an End, as a process that is killed does, in a real state directory.
func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	store, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(cut(play(sample(1), 64, installSteps(names("cp", 1), nil)), 12*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), map[string]secret.Bytes{entry(1): content}); err != nil {
		t.Fatal(err)
	}
	if run := get(t, store, 1, true); run.Result != Running || run.Count(Running) != 1 {
		t.Errorf("with a process: %s, %d steps running", run.Result, run.Count(Running))
	}
	check := func(run *Run) {
		t.Helper()
		last := run.Steps[1].Notes[0].At // of all that was recorded
		if run.Result != Interrupted || run.Error != abandoned || !run.Ended.Equal(last) || !run.Phases[2].Ended.Equal(last) {
			t.Errorf("without a process: %s %q until %v, want %v", run.Result, run.Error, run.Ended, last)
		}
		if run.Count(Interrupted) != 1 || run.Count(Skipped) != 5 || run.Count(Running, Pending) != 0 {
			t.Errorf("steps: %s", summary(run))
		}
	}
	check(get(t, store, 1, false))
	if err := start(t, store).End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	check(get(t, store, 1, true)) // now for good
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := state.OpenReadOnly(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	runs, damaged, err := List(t.Context(), reader, false)
	if err != nil || len(damaged) > 0 || len(runs) != 2 || runs[1].Number != 2 || runs[1].Result != Unchanged {
		t.Errorf("%d runs, %v, %v", len(runs), damaged, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNumbersAndPruning(t *testing.T) {
	store := newMemory()
	store.items["runs/README"] = secret.Bytes("not an entry")
	store.items["pki/ca.key"] = secret.Bytes("nor this")
	for range kept + 20 {
		if err := start(t, store).End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := Numbers(t.Context(), store)
	if err != nil || len(numbers) != kept || numbers[0] != 21 || numbers[kept-1] != kept+20 {
		t.Errorf("%v, %v", numbers, err)
	}
	if len(store.items) != kept+2 {
		t.Errorf("%d items are left", len(store.items))
	}
	if _, err := Get(t.Context(), store, 3, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that was removed: %v", err)
	}
}

// TestDamaged names what cannot be read, lists the rest, and goes on numbering after it.
func TestDamaged(t *testing.T) {
	store := newMemory()
	for range 6 {
		if err := start(t, store).End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for n, content := range map[int]string{
		2: "{", 3: `{"version":2}`, 4: `{}`, 5: string(store.items[entry(1)]), 6: `{"version":1,"number":6}`,
	} {
		store.items[entry(n)] = secret.Bytes(content)
	}
	runs, damaged, err := List(t.Context(), store, false)
	if err != nil || len(runs) != 1 || len(damaged) != 5 {
		t.Fatalf("%d runs, %v, %v", len(runs), damaged, err)
	}
	for i, want := range []string{"unexpected end", "format 2", "no version", "says that it is run 1", "lacks its beginning"} {
		if text := damaged[i].Error(); !strings.Contains(text, want) || !strings.Contains(text, entry(i+2)) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if r := start(t, store); r.Number() != 7 {
		t.Errorf("the next is run %d", r.Number())
	} else if err := r.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// TestRecordedEqualsEvents runs random plans: what is recorded is what happened, and no step lacks its end.
func TestRecordedEqualsEvents(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			store := newMemory()
			store.takes = time.Duration(random.IntN(4)) * time.Millisecond
			r := start(t, store)
			p, steps := randomPlan(random)
			r.Plan(nil, steps)
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+random.IntN(60))*time.Millisecond)
			defer cancel()
			want := map[string]Step{}
			err := plan.Run(ctx, p, 1+random.IntN(4), func(e plan.Event) {
				r.Event(e)
				s := want[e.Step.Name]
				s.event(e)
				want[e.Step.Name] = s
			})
			if err := r.End(ctx, err); err != nil {
				t.Fatal(err)
			}
			run := get(t, store, 1, true)
			for _, s := range run.Steps {
				w := want[s.Name]
				if s.State != w.State || !s.Began.Equal(w.Began) || !s.Ended.Equal(w.Ended) || s.Error != w.Error {
					t.Errorf("seed %d: recorded %+v, but %+v happened", seed, s, w)
				}
				if s.Began.IsZero() != (s.State == Skipped) || s.Ended.IsZero() != (s.State == Skipped) {
					t.Errorf("seed %d: %s is %s, from %v to %v", seed, s.Name, s.State, s.Began, s.Ended)
				}
			}
			if len(run.Steps) != len(p.Steps) || (err == nil) != (run.Result == Succeeded) {
				t.Errorf("seed %d: %d steps, %s after %v", seed, len(run.Steps), run.Result, err)
			}
		})
	}
}

func randomPlan(random *rand.Rand) (plan.Plan, []Step) {
	var p plan.Plan
	var steps []Step
	for i := range 1 + random.IntN(20) {
		s := plan.Step{Name: fmt.Sprint(i), Host: fmt.Sprint("h", i%3)}
		if i > 0 && random.IntN(2) == 0 {
			s.Deps = []string{fmt.Sprint(random.IntN(i))}
		}
		takes, fails := time.Duration(1+random.IntN(9))*time.Millisecond, random.IntN(10) == 0
		s.Do = func(ctx context.Context) error {
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				return ctx.Err()
			}
			if fails {
				return errors.New("broken")
			}
			return nil
		}
		p.Steps = append(p.Steps, s)
		steps = append(steps, Step{Name: s.Name, Host: s.Host, Kind: Change, Deps: s.Deps})
	}
	return p, steps
}

func TestNotesAreBounded(t *testing.T) {
	store := newMemory()
	r := start(t, store)
	gate := plan.Step{Name: "gate", Host: "a"}
	change := plan.Step{Name: "change", Host: "a"}
	r.Plan(nil, []Step{{Name: "gate", Host: "a", Kind: Gate}})
	r.Event(plan.Event{Type: plan.Started, Step: &gate, Time: time.Now()})
	r.Event(plan.Event{Type: plan.Started, Step: &change, Time: time.Now().Add(time.Second)}) // not in the plan
	for i := range 3 * maxNotes {
		r.Note("a", fmt.Sprint(i))
	}
	if err := r.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	run := get(t, store, 1, true)
	n := run.Steps[0].Notes
	if len(n) != maxNotes || n[0].Text != "0" || n[maxNotes-1].Text != fmt.Sprint(3*maxNotes-1) || len(run.Steps[1].Notes) != 0 {
		t.Errorf("%d notes, from %v to %v", len(n), n[0], n[len(n)-1])
	}
}

func TestNilRecorder(t *testing.T) {
	var r *Recorder
	r.Plan(nil, nil)
	r.Phase("a")
	r.Note("a", "b")
	r.Event(plan.Event{})
	if err := r.End(t.Context(), nil); err != nil || r.Number() != 0 {
		t.Error(err)
	}
}

// BenchmarkRecord records a run of 1500 steps into a real directory: what one event costs the run, and how many writes
// follow.
func BenchmarkRecord(b *testing.B) {
	store, err := state.Open(b.Context(), filepath.Join(b.TempDir(), "demo"))
	if err != nil {
		b.Fatal(err)
	}
	r, err := Start(b.Context(), store, Run{})
	if err != nil {
		b.Fatal(err)
	}
	acts := installSteps(names("cp", 3), names("worker", 297))
	var steps []Step
	for _, a := range acts {
		steps = append(steps, a.Step)
	}
	r.Plan(nil, steps)
	step := plan.Step{Name: steps[700].Name}
	for b.Loop() {
		r.Event(plan.Event{Type: plan.Started, Step: &step, Time: time.Now()})
	}
	if err := errors.Join(r.End(b.Context(), nil), store.Close()); err != nil {
		b.Fatal(err)
	}
}
