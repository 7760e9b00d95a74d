package bundle

import (
	"fmt"
	"time"
)

// Phase is what happens to a component.
type Phase string

// The phases, in the order in which a component goes through them; each is reported when it begins.
const (
	Waiting     Phase = "waiting"     // another slipway holds the cache
	Building    Phase = "building"    // from source
	Downloading Phase = "downloading" // from upstream or a mirror
	Trusting    Phase = "trusting"    // Detail has the digest and its source, for a file without a pin
	Retrying    Phase = "retrying"    // Detail has the reason
	Cached      Phase = "cached"      // was there already
	Damaged     Phase = "damaged"     // Detail has the damage; it is made again
	Done        Phase = "done"        // Elapsed is the duration
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
}

// String is the event as one line, without an end of line.
func (e Event) String() string {
	what := "bundle"
	if e.Component != "" {
		what = e.Component + " " + e.Version
	}
	line := fmt.Sprintf("%s: %s", what, e.Phase)
	if e.Elapsed > 0 {
		line += fmt.Sprintf(" (%s)", e.Elapsed.Round(100*time.Millisecond))
	}
	if e.Detail != "" {
		line += ": " + e.Detail
	}
	return line
}
