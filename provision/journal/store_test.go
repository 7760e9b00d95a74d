package journal

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	plans   int // writes of a plan
}

func newMemory() *memory { return &memory{items: map[string]secret.Bytes{}} }

func (m *memory) Put(_ context.Context, items map[string]secret.Bytes) error {
	m.mu.Lock()
	m.writing++
	m.writes++
	for name := range items {
		if strings.HasSuffix(name, ".plan.json") {
			m.plans++
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
		r.Plan(json.RawMessage("{}"), nil)
		if err := r.End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := Numbers(t.Context(), store)
	if err != nil || len(numbers) != kept || numbers[0] != 21 || numbers[kept-1] != kept+20 {
		t.Errorf("%v, %v", numbers, err)
	}
	if len(store.items) != 2*kept+2 {
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
	store.items[planEntry(1)] = secret.Bytes("{")
	if _, err := Get(t.Context(), store, 1, false); !errors.As(err, new(*DamagedError)) {
		t.Errorf("a damaged plan: %v", err)
	}
	if r := start(t, store); r.Number() != 7 {
		t.Errorf("the next is run %d", r.Number())
	} else if err := r.End(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
