package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/state"
)

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
		install := dag.Step{Name: "a: install", Host: "a"}
		wait := dag.Step{Name: "a: wait", Host: "a", Deps: []string{"a: install"}}
		event := func(kind dag.EventType, s *dag.Step, err error) {
			r.Event(dag.Event{Type: kind, Step: s, Time: time.Now(), Err: err})
		}
		r.Phase("observe")
		time.Sleep(time.Second)
		r.Note("a", "nobody hears this")
		r.Plan(json.RawMessage(`{"x":1}`), []Step{
			{Name: install.Name, Host: "a", Kind: Change, Changes: []string{"+ file /x"}},
			{Name: wait.Name, Host: "a", Kind: Gate, Deps: wait.Deps},
		})
		r.Phase("converge")
		event(dag.Started, &install, nil)
		time.Sleep(time.Second)
		event(dag.Succeeded, &install, nil)
		event(dag.Started, &wait, nil)
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
		event(dag.Failed, &wait, failure)
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
			Phases: []Phase{{Name: "observe", Began: at(0), Ended: at(1)}, {Name: "converge", Began: at(1), Ended: at(3)}},
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
		stored := store.items[entry(1)].Reveal()
		if bytes.Contains(stored, []byte(`"plan"`)) || bytes.Contains(stored, []byte("install")) || store.once != 2 {
			t.Errorf("what does not change was written %d times, and should be once and apart:\n%s", store.once, stored)
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

// The parts of a phase have their times and those of their own phases, end with it, and may change while a write reads them.
func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		r := start(t, store)
		began := time.Now().UTC()
		at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
		r.Part("too early", Running, "", "")
		r.Phase("bundle")
		for _, step := range []struct {
			name          string
			state         State
			doing, detail string
		}{
			{"etcd", Running, "compiling", "compiling: 0 of 9"},
			{"etcd", Running, "compiling", "compiling: 5 of 9"},
			{"pause", Running, "", "building"},
			{"etcd", Running, "linking", ""},
			{"etcd", Succeeded, "", ""},
		} {
			r.Part(step.name, step.state, step.doing, step.detail)
			synctest.Wait() // written
			time.Sleep(time.Second)
		}
		r.Phase("observe")
		if err := r.End(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		want := []Part{
			{
				Name: "etcd", State: Succeeded, Began: at(0), Ended: at(4),
				Phases: []Phase{{Name: "compiling", Began: at(0), Ended: at(3)}, {Name: "linking", Began: at(3), Ended: at(4)}},
			},
			{Name: "pause", State: Interrupted, Began: at(2), Ended: at(5), Detail: "building"},
		}
		run := get(t, store, 1, true)
		if len(run.Phases) != 2 || !reflect.DeepEqual(run.Phases[0].Parts, want) || run.Result != Unchanged {
			t.Errorf("recorded %s %+v\nwant\n%+v", run.Result, run.Phases, want)
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
			err := dag.Run(ctx, p, 1+random.IntN(4), func(e dag.Event) {
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

func randomPlan(random *rand.Rand) (dag.Plan, []Step) {
	var p dag.Plan
	var steps []Step
	for i := range 1 + random.IntN(20) {
		s := dag.Step{Name: fmt.Sprint(i), Host: fmt.Sprint("h", i%3)}
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
	gate := dag.Step{Name: "gate", Host: "a"}
	change := dag.Step{Name: "change", Host: "a"}
	r.Plan(nil, []Step{{Name: "gate", Host: "a", Kind: Gate}})
	r.Event(dag.Event{Type: dag.Started, Step: &gate, Time: time.Now()})
	r.Event(dag.Event{Type: dag.Started, Step: &change, Time: time.Now().Add(time.Second)}) // not in the plan
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
	r.Event(dag.Event{})
	if err := r.End(t.Context(), nil); err != nil || r.Number() != 0 {
		t.Error(err)
	}
}

// BenchmarkRecord records a run of 1500 steps into a real directory: what one event costs the run, and how many writes
// follow.
func BenchmarkRecord(b *testing.B) {
	store, err := state.Open(b.Context(), state.Options{Dir: filepath.Join(b.TempDir(), "demo")})
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
	step := dag.Step{Name: steps[700].Name}
	for b.Loop() {
		r.Event(dag.Event{Type: dag.Started, Step: &step, Time: time.Now()})
	}
	if err := errors.Join(r.End(b.Context(), nil), store.Close()); err != nil {
		b.Fatal(err)
	}
}
