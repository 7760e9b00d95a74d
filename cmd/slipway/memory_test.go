package main

import (
	"math"
	"runtime/debug"
	"testing"

	"slipway.dev/slipway/provision/dag"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	limitMemory(1000)
	few := debug.SetMemoryLimit(-1)
	limitMemory(5000)
	if many := debug.SetMemoryLimit(-1); few > 300<<20 || many < 4*(few-memoryBase) {
		t.Errorf("1,000 hosts may use %d bytes, 5,000 %d", few, many)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	if limitMemory(1000); debug.SetMemoryLimit(-1) != 1<<30 {
		t.Error("GOMEMLIMIT does not take precedence")
	}
}

// TestRowsLetGoOfSteps: a step holds on to all that was observed.
func TestRowsLetGoOfSteps(t *testing.T) {
	r, one, two := &row{name: "a"}, &dag.Step{Name: "a: one", Host: "a"}, &dag.Step{Name: "a: two", Host: "a"}
	for _, e := range []dag.Event{{Type: dag.Started, Step: one}, {Type: dag.Started, Step: two}, {Type: dag.Succeeded, Step: one}, {Type: dag.Succeeded, Step: two}} {
		r.event(e)
	}
	for _, left := range r.tasks[:cap(r.tasks)] {
		if left.step != nil {
			t.Errorf("it still has %q", left.step.Name)
		}
	}
}
