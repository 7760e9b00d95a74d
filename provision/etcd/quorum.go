package etcd

import (
	"errors"
	"fmt"
	"slices"
)

// QuorumWithout is the quorum check. It returns nil if one member may stop: the others are a
// majority and answer. It also returns nil if that member is already out, if those that may still
// take part are not a majority, or if it is the only member, because then no majority can be lost.
// A member that did not answer in time may still take part. Learners have no vote and do not count,
// and neither does a member with corrupt data; a member without space has a vote.
func QuorumWithout(members []Member, name string) error {
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
