package etcd

import (
	"errors"
	"fmt"
)

// Spares says why the members cannot do without one of them for a while; nil where they can: the others are a majority
// and healthy. Nothing is lost with one that is down already, nor is there a majority to keep where it is the only one.
// Learners have no vote and do not count.
func Spares(members []Member, name string) error {
	voters, healthy := 0, 0
	var last error
	for _, m := range members {
		switch {
		case m.Learner:
			continue
		case m.Name == name && !m.Healthy:
			return nil
		case m.Name == name:
		case m.Healthy:
			healthy++
		default:
			last = errors.Join(last, fmt.Errorf("%s: %w", m.Name, m.Err))
		}
		voters++
	}
	need := voters/2 + 1
	if voters == 1 || healthy >= need {
		return nil
	}
	return errors.Join(fmt.Errorf("of %d members %d would be left, and a majority is %d", voters, healthy, need), last)
}
