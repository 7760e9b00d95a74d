package e2e

import (
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
	t.Cleanup(work.give)
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
