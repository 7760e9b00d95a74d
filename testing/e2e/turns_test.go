package e2e

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// atOnce is how many tests work at a time, with clusters of four machines each: two cores get less done with more of them,
// since machines that only wait cost, too.
const atOnce = 2

// turns hands out the right to work, to who takes longest first.
type turns struct {
	mu      sync.Mutex
	changed *sync.Cond
	free    int
	waiting []time.Duration
}

var work = newTurns(atOnce)

func newTurns(n int) *turns {
	w := &turns{free: n}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// parallel is t.Parallel for tests that make clusters. takes is about how long it works.
func parallel(t *testing.T, takes time.Duration) {
	t.Helper()
	work.queue(takes) // before any of those begins that come later
	t.Parallel()
	work.take(takes)
	began := time.Now()
	t.Cleanup(func() {
		t.Logf("worked for %.0fs, expected %.0fs", time.Since(began).Seconds(), takes.Seconds()) // testing/touched reads it
		work.give()
	})
}

// long skips what takes too long for every change, unless there is time for it. Tests that begin with it, and no others, have
// names that begin with TestLong; the table of testing/touched has the packages whose changes touch them.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("SLIPWAY_E2E_LONG") == "" {
		t.Skip("takes long; make e2e-all runs it")
	}
}

// resting lets others work while f does nothing but wait.
func resting(f func()) {
	work.give()
	defer func() {
		const first = time.Hour
		work.queue(first)
		work.take(first)
	}()
	f()
}

func (w *turns) queue(takes time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, takes)
}

func (w *turns) take(takes time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.free == 0 || takes < slices.Max(w.waiting) {
		w.changed.Wait()
	}
	w.free--
	i := slices.Index(w.waiting, takes)
	w.waiting = slices.Delete(w.waiting, i, i+1)
	w.changed.Broadcast()
}

func (w *turns) give() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free++
	w.changed.Broadcast()
}
