package etcd

import (
	"errors"
	"fmt"
	"testing"
)

func TestSpares(t *testing.T) {
	sick := errors.New("no answer")
	well := func(name string) Member { return Member{Name: name, Healthy: true, Answers: true} }
	ill := func(name string) Member { return Member{Name: name, Err: sick, Out: true} }
	slow := func(name string) Member { return Member{Name: name, Err: sick} }
	alarmed := func(name, alarm string) Member {
		return Member{Name: name, Answers: true, Alarms: []string{alarm}, Err: fmt.Errorf("%w: %w", &AlarmError{[]string{alarm}}, sick)}
	}
	for _, tt := range []struct {
		name    string
		members []Member
		spared  bool
	}{
		{"the only one", []Member{well("a")}, true},
		{"one of three", []Member{well("a"), well("b"), well("c")}, true},
		{"one of three, another is down", []Member{well("a"), ill("b"), well("c")}, false},
		{"one of three that is down itself", []Member{ill("a"), ill("b"), well("c")}, true},
		{"one of two", []Member{well("a"), well("b")}, false},
		{"one of five, another is down", []Member{well("a"), ill("b"), well("c"), well("d"), well("e")}, true},
		{"one of five, two others are down", []Member{well("a"), ill("b"), ill("c"), well("d"), well("e")}, false},
		{"a learner counts for nothing", []Member{well("a"), well("b"), ill("c"), {Name: "d", Healthy: true, Answers: true, Learner: true}}, false},
		{"one of three that is slow, another is down: the third answers, so it is needed", []Member{slow("a"), ill("b"), well("c")}, false},
		{"one of three that is slow", []Member{slow("a"), well("b"), well("c")}, true},
		{"one of three, another is slow", []Member{well("a"), slow("b"), well("c")}, false},
		{"all are slow", []Member{slow("a"), slow("b"), slow("c")}, false},
		{"one is slow, and no majority can be there", []Member{slow("a"), ill("b"), ill("c")}, true},
		{"without space there is a majority, too", []Member{alarmed("a", NoSpace), alarmed("b", NoSpace), alarmed("c", NoSpace)}, true},
		{"a corrupt one does not count", []Member{well("a"), alarmed("b", Corrupt), well("c")}, false},
	} {
		err := QuorumWithout(tt.members, "a")
		if (err == nil) != tt.spared {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && tt.name != "one of two" && !errors.Is(err, sick) && tt.members[1].Err != nil {
			t.Errorf("%s: the error does not say why: %v", tt.name, err)
		}
	}
}
