package etcd

import (
	"errors"
	"testing"
)

func TestSpares(t *testing.T) {
	sick := errors.New("no answer")
	well := func(name string) Member { return Member{Name: name, Healthy: true} }
	ill := func(name string) Member { return Member{Name: name, Err: sick} }
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
		{"a learner counts for nothing", []Member{well("a"), well("b"), ill("c"), {Name: "d", Healthy: true, Learner: true}}, false},
	} {
		err := Spares(tt.members, "a")
		if (err == nil) != tt.spared {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && tt.name != "one of two" && !errors.Is(err, sick) && tt.members[1].Err != nil {
			t.Errorf("%s: the error does not say why: %v", tt.name, err)
		}
	}
}
