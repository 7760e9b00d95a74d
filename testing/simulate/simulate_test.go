package simulate

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"slipway.dev/slipway/testing/fixture"
)

// made are the shapes of all clusters that are simulated.
var made = sync.OnceValues(func() (all []*Shape, err error) {
	for _, cps := range []int{1, 3, 5} { // the spec takes no even number
		for workers := range 3 {
			s, err := NewShape(cps, workers)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
})

func shapes(t testing.TB) []*Shape {
	t.Helper()
	all, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// number is what a variable of the environment says.
func number(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// simulated is what comes of a seed, in a bubble of its own.
func simulated(t *testing.T, all []*Shape, seed uint64, o Options) (r Result) {
	synctest.Test(t, func(t *testing.T) { r = Simulate(t.Context(), all, seed, o) })
	return r
}

// TestSimulate has SEEDS seeds decide, or shows what one does (SEED).
func TestSimulate(t *testing.T) {
	fixture.Alone(t)
	all := shapes(t)
	if os.Getenv("SEED") != "" {
		r := simulated(t, all, number(t, "SEED", 0), Options{Trace: true})
		for _, line := range r.Trace {
			fmt.Println(line)
		}
		for _, why := range r.Broken {
			t.Error(why)
		}
		return
	}
	shards := uint64(runtime.GOMAXPROCS(0)) //nolint:gosec // G115: positive
	var runs, failed atomic.Int64
	seeds := number(t, "SEEDS", 1000)
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < seeds && failed.Load() < 10; seed += shards {
					r := simulated(t, all, seed, Options{})
					runs.Add(int64(r.Runs))
					for _, why := range r.Broken {
						t.Errorf("seed %d: %s", seed, why)
					}
					if len(r.Broken) > 0 {
						failed.Add(1)
						t.Errorf("see what happened: make simulate SEED=%d", seed)
					}
				}
			})
		}
	})
	t.Logf("%d seeds, %d runs of apply", seeds, runs.Load())
}
