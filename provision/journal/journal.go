// Package journal records what a run does, step by step, and lists and draws runs.
//
// A Recorder writes a Run to the state store at each event. List and Get read runs, including those
// whose process was killed. WriteTimeline and WriteHTML draw one. The package does not decide what
// a run does, and reads nothing from hosts. It must not get secrets: a run contains names, times,
// descriptions of changes and the errors of steps.
package journal

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Version is that of Run's JSON. It changes when an older slipway would misread it.
const Version = 1

// State is the state of a run or a step.
type State string

// States of steps and runs. Pending, Skipped are of steps only, Unchanged is of runs only: there
// was nothing to do.
const (
	Pending     State = "pending"
	Running     State = "running"
	Succeeded   State = "succeeded"
	Failed      State = "failed"
	Interrupted State = "interrupted"
	Skipped     State = "skipped"
	Unchanged   State = "unchanged"
)

// Kind distinguishes steps that act from those that wait.
type Kind string

// The kinds of steps. A Gate changes nothing: it waits until something is well.
const (
	Change  Kind = "change"
	Gate    Kind = "gate"
	Cluster Kind = "cluster"
)

// Run is one run of slipway on one cluster. Times are in UTC, and zero if not reached yet.
type Run struct {
	// Version of this format, set by Start.
	Version int `json:"version"`
	// Number counts a cluster's runs from 1, set by Start.
	Number  int    `json:"number"`
	Cluster string `json:"cluster"`
	// Command is the verb, for example "apply".
	Command string `json:"command"`
	// Operator is the user that ran it, as "user@host".
	Operator string `json:"operator,omitempty"`
	// Slipway is the version of the program.
	Slipway string    `json:"slipway,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	// Result is Running, Succeeded, Failed, Interrupted or Unchanged.
	Result State `json:"result"`
	// Error is that of the run as a whole, with all that it wraps.
	Error  string  `json:"error,omitempty"`
	Phases []Phase `json:"phases,omitempty"`
	// Plan is the plan as a value, in whatever form the caller has it.
	Plan  json.RawMessage `json:"plan,omitempty"`
	Steps []Step          `json:"steps,omitempty"`

	// planned is the number of first steps that are stored in two parts; if the second part was not
	// read, unread is the number of its changes.
	planned, unread int
}

// Phase is a part of a run; phases follow one another.
type Phase struct {
	Name  string    `json:"name"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Parts are what takes long in it and is not a step of the plan, such as the build of a
	// component. They may overlap.
	Parts []Part `json:"parts,omitempty"`
}

// Part is a part of a phase.
type Part struct {
	Name  string    `json:"name"`
	State State     `json:"state"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Detail is what was said of it last, such as how far it is.
	Detail string `json:"detail,omitempty"`
	// Phases are its own; they follow one another.
	Phases []Phase `json:"phases,omitempty"`
}

// Step is one step of the plan.
type Step struct {
	// Name is unique in a run and may begin with the host's, as in "demo-cp-1: start etcd".
	Name string `json:"name,omitempty"`
	// Host is empty for a step of the cluster as a whole.
	Host string `json:"host,omitempty"`
	Kind Kind   `json:"kind,omitempty"`
	// Deps are the names of the steps that it waits for.
	Deps []string `json:"deps,omitempty"`
	// Changes are the planned changes, one line each.
	Changes []string  `json:"changes,omitempty"`
	State   State     `json:"state"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Error is why it failed, the whole standard error of what it ran included, or why it never
	// began.
	Error string `json:"error,omitempty"`
	// Notes are its messages: what it waited for.
	Notes []Note `json:"notes,omitempty"`
}

// Note is a message of a step.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Took returns the duration of the run, until now if it is still running.
func (r *Run) Took(now time.Time) time.Duration { return span(r.Began, r.Ended, now) }

// Count returns how many steps are in one of states.
func (r *Run) Count(states ...State) int {
	n := 0
	for i := range r.Steps {
		for _, s := range states {
			if r.Steps[i].State == s {
				n++
			}
		}
	}
	return n
}

// Changes counts what all steps were to change.
func (r *Run) Changes() int {
	n := r.unread
	for i := range r.Steps {
		n += len(r.Steps[i].Changes)
	}
	return n
}

// Took returns the duration of the step, until now if it is still running; 0 if it never started.
func (s *Step) Took(now time.Time) time.Duration { return span(s.Began, s.Ended, now) }

func span(began, ended, now time.Time) time.Duration {
	if began.IsZero() {
		return 0
	}
	if ended.IsZero() {
		ended = now
	}
	return max(ended.Sub(began), 0)
}

// abandoned is the error of runs whose process went away.
const abandoned = "slipway ended without saying how: it was killed, or its machine went down"

// abandon ends a run whose process is gone, at the last time that it recorded.
func (r *Run) abandon() { r.end(Interrupted, abandoned, r.last()) }

// end closes whatever is open. What ran is interrupted and what did not begin never will.
func (r *Run) end(result State, reason string, at time.Time) {
	r.Result, r.Error, r.Ended = result, reason, at
	r.endPhase(at)
	for i := range r.Steps {
		switch s := &r.Steps[i]; s.State {
		case Running:
			s.State, s.Ended = Interrupted, at
		case Pending:
			s.State = Skipped
		}
	}
}

// endPhase ends the last phase, and what still runs in it.
func (r *Run) endPhase(at time.Time) {
	last := endLast(r.Phases, at)
	if last == nil {
		return
	}
	last.Parts = slices.Clone(last.Parts) // a copy, since a writer may be reading
	for i := range last.Parts {
		if p := &last.Parts[i]; p.State == Running {
			p.Phases = slices.Clone(p.Phases)
			p.end(Interrupted, at)
		}
	}
}

// endLast ends the last of phases if it has not ended, and returns it; nil if there is none.
func endLast(phases []Phase, at time.Time) *Phase {
	if len(phases) == 0 {
		return nil
	}
	last := &phases[len(phases)-1]
	if last.Ended.IsZero() {
		last.Ended = at
	}
	return last
}

func (p *Part) end(state State, at time.Time) {
	p.State, p.Ended = state, at
	endLast(p.Phases, at)
}

// describe says how long its phases took, and its detail.
func (p *Part) describe(now time.Time) string {
	var texts []string
	for _, phase := range p.Phases {
		texts = append(texts, phase.Name+" "+took(span(phase.Began, phase.Ended, now)))
	}
	text := strings.Join(texts, ", ")
	switch {
	case text == "":
		return p.Detail
	case p.Detail == "":
		return text
	}
	return text + ": " + p.Detail
}

// last is the latest time in the run.
func (r *Run) last() time.Time {
	last := r.Began
	see := func(times ...time.Time) {
		for _, t := range times {
			if t.After(last) {
				last = t
			}
		}
	}
	see(r.Ended)
	for _, p := range r.Phases {
		see(p.Began, p.Ended)
		for _, part := range p.Parts {
			see(part.Began, part.Ended)
			for _, p := range part.Phases {
				see(p.Began, p.Ended)
			}
		}
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		see(s.Began, s.Ended)
		for _, n := range s.Notes {
			see(n.At)
		}
	}
	return last
}
