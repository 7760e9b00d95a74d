package stack

import (
	"time"
)

// Clock is one reading of a host's clock between two readings of this computer's.
type Clock struct {
	// Read is the host's clock, in whole seconds; zero if unknown.
	Read time.Time
	// Sent is the time before the query, and Returned the time after the answer.
	Sent, Returned time.Time
}

// Offset is how far the host's clock is ahead of this computer's, negative if it is behind: the
// smallest value that is consistent with the readings, however long the host took to answer; 0 if
// unknown.
func (c Clock) Offset() time.Duration {
	if c.Read.IsZero() || c.Sent.IsZero() {
		return 0
	}
	most, least := c.Read.Add(time.Second).Sub(c.Sent), c.Read.Sub(c.Returned)
	return min(most, max(least, 0))
}
