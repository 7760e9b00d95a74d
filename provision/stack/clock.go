package stack

import (
	"time"
)

// Clock is what a host's clock showed at a moment between two of this computer's.
type Clock struct {
	// Read is the host's, in whole seconds; zero where it is not known.
	Read time.Time
	// Sent is from before the host was asked, and Returned from after it had answered.
	Sent, Returned time.Time
}

// Offset is how far the host's clock is ahead of this computer's, negative where it is behind: the least that agrees with
// what was read, however long the host took to answer; 0 where that is not known.
func (c Clock) Offset() time.Duration {
	if c.Read.IsZero() || c.Sent.IsZero() {
		return 0
	}
	most, least := c.Read.Add(time.Second).Sub(c.Sent), c.Read.Sub(c.Returned)
	return min(most, max(least, 0))
}
