package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/dag"
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
	once    int // writes of what does not change
}

func newMemory() *memory { return &memory{items: map[string]secret.Bytes{}} }

func (m *memory) Put(_ context.Context, items map[string]secret.Bytes) error {
	m.mu.Lock()
	m.writing++
	m.writes++
	for name := range items {
		if strings.HasSuffix(name, ".plan.json") || strings.HasSuffix(name, ".steps.json") {
			m.once++
		}
	}
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

// TestCrash leaves a run without an End, as a process that is killed does, in a real state directory.
func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	store, err := state.Open(t.Context(), state.Options{Dir: dir})
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
	reader, err := state.OpenReadOnly(t.Context(), state.Options{Dir: dir})
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
		r := start(t, store)
		r.Plan(json.RawMessage("{}"), []Step{{Name: "a"}})
		if err := r.End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := Numbers(t.Context(), store)
	if err != nil || len(numbers) != kept || numbers[0] != 21 || numbers[kept-1] != kept+20 {
		t.Errorf("%v, %v", numbers, err)
	}
	if len(store.items) != 3*kept+2 {
		t.Errorf("%d items are left", len(store.items))
	}
	if _, err := Get(t.Context(), store, 3, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that was removed: %v", err)
	}
}

// TestSmallAndLarge: what is written with every event and listed lacks what is large, and does not lack its counts; what
// is got is the run as it was told, and looks in JSON as if it had been stored as one.
func TestSmallAndLarge(t *testing.T) {
	store := newMemory()
	acts := installSteps(names("cp", 3), names("worker", 297))
	var steps []Step
	for _, a := range acts {
		a.State, a.Notes = Pending, nil
		steps = append(steps, a.Step)
	}
	want := Run{Version: Version, Number: 1, Cluster: "demo", Command: "apply", Operator: "ana@here", Slipway: "v1", Result: Failed, Plan: json.RawMessage(`{"x":1}`)}
	want.Steps = slices.Clone(steps)
	r := start(t, store)
	r.Plan(want.Plan, steps)
	stranger := dag.Step{Name: "a stranger", Host: "a"}
	at := began
	for _, s := range append([]dag.Step{{Name: steps[0].Name}}, stranger) {
		r.Event(dag.Event{Type: dag.Started, Step: &s, Time: at})
	}
	r.Event(dag.Event{Type: dag.Succeeded, Step: &dag.Step{Name: steps[0].Name}, Time: at})
	failed := errors.New("it failed")
	if err := r.End(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	changes := want.Changes()
	got := get(t, store, 1, true)
	want.Began, want.Ended, want.Error = got.Began, got.Ended, failed.Error()
	want.Steps = append(want.Steps, Step{Name: stranger.Name, Host: "a", Kind: Change, State: Interrupted, Began: at, Ended: got.Ended})
	for i := range steps {
		want.Steps[i].State = Skipped
	}
	want.Steps[0].State, want.Steps[0].Began, want.Steps[0].Ended = Succeeded, at, at
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	gotJSON, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if wantJSON, err := json.Marshal(want); err != nil || !bytes.Equal(gotJSON, wantJSON) {
		t.Errorf("%v, in JSON it is %.2000s", err, gotJSON)
	}
	if small, all := len(store.items[entry(1)]), len(gotJSON); small*8 > all {
		t.Errorf("%d bytes are written with every event, of %d", small, all)
	}
	// Listing reads nothing else.
	delete(store.items, planEntry(1))
	delete(store.items, stepsEntry(1))
	runs, damaged, err := List(t.Context(), store, true)
	if err != nil || len(damaged) > 0 || len(runs) != 1 {
		t.Fatalf("%d runs, %v, %v", len(runs), damaged, err)
	}
	if n := runs[0]; n.Changes() != changes || len(n.Steps) != len(want.Steps) || n.Count(Skipped) != len(steps)-1 || n.Count(Succeeded) != 1 {
		t.Errorf("listed with %s, %d changes", summary(n), n.Changes())
	}
}

// TestKilledAfterPlanning leaves a run that was told its plan: the next one closes it, and it keeps its steps.
func TestKilledAfterPlanning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		killed := start(t, store)
		killed.Plan(json.RawMessage(`{}`), []Step{{Name: "a", Host: "h", Kind: Gate, Changes: []string{"x", "y"}}})
		killed.Event(dag.Event{Type: dag.Started, Step: &dag.Step{Name: "a"}, Time: time.Now()})
		synctest.Wait()
		left := &memory{items: maps.Clone(store.items)}
		if err := errors.Join(killed.End(t.Context(), nil), start(t, left).End(t.Context(), nil)); err != nil {
			t.Fatal(err)
		}
		run := get(t, left, 1, true)
		if s := run.Steps[0]; run.Result != Interrupted || s.State != Interrupted || s.Name != "a" || s.Kind != Gate || run.Changes() != 2 {
			t.Errorf("it is %+v", run)
		}
		runs, _, err := List(t.Context(), left, false)
		if err != nil || len(runs) != 2 || runs[0].Changes() != 2 {
			t.Errorf("%v, %v", runs, err)
		}
	})
}

// failing has only so many writes left, as a process that is killed.
type failing struct {
	*memory
	left int
}

func (f *failing) Put(ctx context.Context, items map[string]secret.Bytes) error {
	if f.left--; f.left < 0 {
		return errors.New("killed")
	}
	return f.memory.Put(ctx, items)
}

// TestKilledAnywhere: after each of its writes, a recorder may be dead. What is stored can be read, and no run goes on
// once the next has begun.
func TestKilledAnywhere(t *testing.T) {
	for left := range 8 {
		synctest.Test(t, func(t *testing.T) {
			store := newMemory()
			for range 2 { // the second one finds what the first has left
				f := &failing{store, left}
				if r, err := Start(t.Context(), f, Run{Cluster: "demo", Command: "apply"}); err == nil {
					r.Plan(json.RawMessage(`{}`), []Step{{Name: "a", Changes: []string{"x"}}})
					synctest.Wait()
					r.Event(dag.Event{Type: dag.Started, Step: &dag.Step{Name: "a"}, Time: time.Now()})
					synctest.Wait()
					f.left = 0
					_ = r.End(t.Context(), nil) // which is not stored
				}
			}
			last := start(t, store)
			numbers, err := Numbers(t.Context(), store)
			if err != nil || len(numbers) != min(left, 2)+1 {
				t.Errorf("after %d writes: runs %v, %v", left, numbers, err)
			}
			for _, n := range numbers {
				if run := get(t, store, n, true); (run.Result == Running) != (n == last.Number()) || len(run.Steps) > 0 && run.Steps[0].Name != "a" {
					t.Errorf("after %d writes, run %d: %+v", left, n, run)
				}
			}
			if err := last.End(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		})
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
		2: `{"version":1,"number":2,"began":"2026-01-02T12:03:04Z","result":"failed","planned":1}`, 3: `{"version":2}`, 4: `{}`, 5: string(store.items[entry(1)]), 6: `{"version":1,"number":6}`,
	} {
		store.items[entry(n)] = secret.Bytes(content)
	}
	runs, damaged, err := List(t.Context(), store, false)
	if err != nil || len(runs) != 1 || len(damaged) != 5 {
		t.Fatalf("%d runs, %v, %v", len(runs), damaged, err)
	}
	for i, want := range []string{"1 were planned", "format 2", "no version", "says that it is run 1", "lacks its beginning"} {
		if text := damaged[i].Error(); !strings.Contains(text, want) || !strings.Contains(text, entry(i+2)) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	store.items[planEntry(1)] = secret.Bytes("{")
	if _, err := Get(t.Context(), store, 1, false); !errors.As(err, new(*DamagedError)) {
		t.Errorf("a damaged plan: %v", err)
	}
	store.items[entry(2)] = secret.Bytes(`{"version":1,"number":2,"began":"2026-01-02T12:03:04Z","result":"failed","planned":2,"steps":[{},{}]}`)
	for _, steps := range []string{`{`, `[]`, `[{},{},{}]`} {
		store.items[stepsEntry(2)] = secret.Bytes(steps)
		if _, err := Get(t.Context(), store, 2, false); !errors.As(err, new(*DamagedError)) || !strings.Contains(err.Error(), stepsEntry(2)) {
			t.Errorf("damaged steps: %v", err)
		}
	}
	delete(store.items, stepsEntry(2))
	if _, err := Get(t.Context(), store, 2, false); err == nil || !strings.Contains(err.Error(), "steps of run 2") {
		t.Errorf("no steps: %v", err)
	}
	if r := start(t, store); r.Number() != 7 {
		t.Errorf("the next is run %d", r.Number())
	} else if err := r.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
