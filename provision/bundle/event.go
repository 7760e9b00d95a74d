package bundle

import (
	"fmt"
	"strconv"
	"time"
)

// Phase is what happens to a component.
type Phase string

// The phases, in the order in which a component goes through them. Each is reported when it begins,
// and those that are measured again and again, with Done and Total.
const (
	Waiting     Phase = "waiting"     // another slipway holds the cache
	Building    Phase = "building"    // from source
	Fetching    Phase = "fetching"    // Go modules, of which Done were downloaded
	Compiling   Phase = "compiling"   // measured in packages whose compilation has begun
	Linking     Phase = "linking"     // measured in programs that are linked
	Downloading Phase = "downloading" // from upstream or a mirror, measured in bytes; Detail is the file
	Trusting    Phase = "trusting"    // Detail has the digest and its source, for a file without a pin
	Retrying    Phase = "retrying"    // Detail has the reason
	Cached      Phase = "cached"      // was there already
	Damaged     Phase = "damaged"     // Detail has the damage; it is made again
	Done        Phase = "done"        // Elapsed is the duration
	Failed      Phase = "failed"      // Detail is the error
	Choosing    Phase = "choosing"    // Detail has the source that Ensure chose, and why
	Assembled   Phase = "assembled"   // the whole bundle; Detail is its directory
)

// Event is a piece of progress.
type Event struct {
	Component string // empty for the bundle as a whole
	Version   string
	Phase     Phase
	Elapsed   time.Duration // of Done and Assembled
	Detail    string
	// Done and Total measure a phase that says so; Total is 0 if it is not known.
	Done, Total int64
}

// String is the event as one line, without an end of line.
func (e Event) String() string { return e.What() + ": " + e.Doing() }

// What is the component with its version, or "bundle".
func (e Event) What() string {
	if e.Component == "" {
		return "bundle"
	}
	return e.Component + " " + e.Version
}

// Doing is the phase with all that is known of it.
func (e Event) Doing() string {
	text := string(e.Phase)
	if e.Elapsed > 0 {
		text += fmt.Sprintf(" (%s)", e.Elapsed.Round(100*time.Millisecond))
	}
	if about := e.About(); about != "" {
		text += ": " + about
	}
	return text
}

// About is what is known of the phase: its measure and its detail.
func (e Event) About() string {
	measure := e.measure()
	if measure != "" && e.Detail != "" {
		measure += ": "
	}
	return measure + e.Detail
}

// measure is Done and Total with their unit; empty if the phase is not measured.
func (e Event) measure() string {
	unit, number := "", grouped
	switch e.Phase {
	case Fetching:
		unit = "Go modules"
	case Compiling:
		unit = "packages"
	case Linking:
		unit = "programs"
	case Downloading:
		unit, number = "MB", megabytes
	}
	switch {
	case unit == "" || e.Done == 0 && e.Total == 0:
		return ""
	case e.Total == 0:
		return number(e.Done) + " " + unit
	}
	return number(e.Done) + " of " + number(e.Total) + " " + unit
}

// grouped writes 1480 as "1,480".
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) }

// Sparingly returns a function that passes on what a log needs of progress: of the measures of a
// phase those that begin another tenth of it, or another 50 if the total is not known.
func Sparingly(report func(Event)) func(Event) {
	last := map[string]Event{}
	return func(e Event) {
		before, ok := last[e.Component]
		if ok && before.Phase == e.Phase && before.Detail == e.Detail && before.Total == e.Total && before.tenth() == e.tenth() {
			return
		}
		last[e.Component] = e
		report(e)
	}
}

func (e Event) tenth() int64 {
	if e.Total == 0 {
		return e.Done / 50
	}
	return e.Done * 10 / e.Total
}
