package main

import (
	"time"

	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/journal"
)

// bundle returns a function that shows how a bundle is made: on a terminal a row for each
// component, otherwise a line for about each tenth of the measured work. Log and journal receive
// the same as the lines.
func (p *progress) bundle() func(bundle.Event) {
	tell := false
	sparingly := bundle.Sparingly(func(bundle.Event) { tell = true })
	return func(e bundle.Event) {
		tell = false
		sparingly(e)
		p.bundleEvent(e, tell)
	}
}

func (p *progress) bundleEvent(e bundle.Event, tell bool) {
	if e.Component == "" {
		p.Host("bundle", e.Doing())
		return
	}
	p.mu.Lock()
	begun := p.byName[e.Component] != nil
	p.mu.Unlock()
	if e.Phase == bundle.Cached && !begun {
		p.Host("bundle", e.String())
		return
	}
	state := partStates[e.Phase]
	if state == "" {
		state = journal.Running
	}
	if tell {
		p.log.Info("bundle", "component", e.What(), "what", e.Doing())
		p.recorder.Part(e.What(), state, bundlePhases[e.Phase], e.About())
	}
	p.update(func() string {
		p.row(e.Component).part(e, state, p.now())
		if !tell {
			return ""
		}
		return e.String()
	})
}

// partStates maps events of a component to its states, other than running.
var partStates = map[bundle.Phase]journal.State{
	bundle.Done: journal.Succeeded, bundle.Cached: journal.Succeeded, bundle.Failed: journal.Failed,
}

// bundlePhases are the phases of a component whose durations the journal keeps.
var bundlePhases = map[bundle.Phase]string{
	bundle.Fetching: "fetching", bundle.Compiling: "compiling", bundle.Linking: "linking", bundle.Downloading: "downloading",
}

// part is what a component of the bundle is doing.
func (r *row) part(e bundle.Event, state journal.State, now time.Time) {
	r.touch(now)
	if !r.busy {
		r.noted = now
	}
	r.component, r.busy, r.finished, r.note = true, state == journal.Running, state == journal.Succeeded, e.Doing()
	switch state {
	case journal.Succeeded:
		r.note = string(e.Phase) // the row has the duration
	case journal.Failed:
		r.failure = e.About()
	}
}
