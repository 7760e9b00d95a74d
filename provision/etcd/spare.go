package etcd

import (
	"errors"
	"fmt"
	"slices"
)

// Spares says why the members cannot do without one of them for a while; nil where they can: the others are a majority
// and answer. Nothing is lost with one that is out already, nor where all that may still take part are no majority, nor is
// there one to keep where it is the only member. A member that did not answer in time may take part all the same.
// Learners have no vote and do not count, nor does one whose data is corrupt; one that has no space left has a vote.
func Spares(members []Member, name string) error {
	voters, answer, possible := 0, 0, 0
	own, works := Member{}, false
	var last error
	for _, m := range members {
		if m.Learner {
			continue
		}
		voters++
		if !m.Out {
			possible++
		}
		works = works || m.Answers
		switch {
		case m.Name == name:
			own = m
		case m.Answers && !slices.Contains(m.Alarms, Corrupt):
			answer++
		default:
			last = errors.Join(last, fmt.Errorf("%s: %w", m.Name, m.Err))
		}
	}
	need := voters/2 + 1
	if voters == 1 || own.Out || answer >= need || !works && possible < need {
		return nil
	}
	return errors.Join(fmt.Errorf("of %d members %d would be left that answer, and a majority is %d", voters, answer, need), last)
}
