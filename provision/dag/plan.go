// Package dag runs steps with dependencies on a bounded number of workers and reports events.
//
// It knows neither SSH nor Kubernetes: a step is a name, a host, the steps it waits for, and a function.
package dag

import (
	"context"
	"time"
)

// Step is a unit of work.
type Step struct {
	// Name is unique within a Plan and reads well on a progress line, for example "demo-cp-1: start etcd".
	Name string
	// Host the step acts on; empty for the cluster as a whole.
	Host string
	// Deps are names of steps that must have succeeded before.
	Deps []string
	// Do performs the step; it must honour ctx.
	Do func(ctx context.Context) error
}

// Plan is a set of steps. Order carries no meaning but breaks ties: with one worker, runs are deterministic.
type Plan struct {
	Steps []Step
}

// EventType says what happened to a step.
type EventType int

// The life of a step. Skipped is one whose dependency failed, or that had not begun when ctx was cancelled.
const (
	Started EventType = iota
	Succeeded
	Failed
	Skipped
)

// Event reports a step's progress. Events are delivered one at a time.
type Event struct {
	Type EventType
	Step *Step
	Time time.Time
	// Elapsed since Started, for Succeeded and Failed.
	Elapsed time.Duration
	// Err for Failed and Skipped.
	Err error
}
