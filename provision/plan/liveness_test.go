package plan

import (
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// sights are what can be seen of a control plane.
var sights = map[byte]func(m *stack.Member, h *stack.HostState){
	'+': func(m *stack.Member, _ *stack.HostState) { m.Healthy, m.Answers = true, true },
	'!': func(m *stack.Member, _ *stack.HostState) { m.Answers, m.Problem = true, "alarm NOSPACE" },
	'?': func(m *stack.Member, _ *stack.HostState) { m.Problem = "context deadline exceeded" }, // slow
	'l': func(m *stack.Member, _ *stack.HostState) { m.Out, m.Problem = true, "no leader" },
	'-': func(m *stack.Member, h *stack.HostState) {
		h.Units["etcd.service"], m.Out = stack.Unit{State: "failed/failed"}, true
	},
	'a': func(m *stack.Member, h *stack.HostState) {
		h.Units["etcd.service"], m.Out = stack.Unit{State: "activating/auto-restart"}, true
	},
	'd': func(_ *stack.Member, h *stack.HostState) {
		h.Units["etcd.service"] = stack.Unit{State: "deactivating/stop-sigterm"}
	},
	'n': func(_ *stack.Member, h *stack.HostState) { delete(h.Units, "etcd.service") },
}

// sighted makes of a word a state: a letter of sights a control plane, "x" for one that could not be reached, "g" for one whose
// machine does not exist.
func sighted(word string) ([]spec.Machine, stack.State, []string) {
	ms := fixture.Machines(len(word), 1)
	s := stack.State{Hosts: map[string]stack.HostState{"w-1": {}}, Members: map[string]stack.Member{}}
	var gone []string
	for i, m := range ms[:len(word)] {
		sight, ok := sights[word[i]]
		if !ok {
			if s.Members[m.Name] = (stack.Member{Problem: "not asked"}); word[i] == 'g' {
				gone = append(gone, m.Name)
			}
			continue
		}
		member, h := stack.Member{}, stack.HostState{Facts: stack.Facts{Initialized: true}, Units: map[string]stack.Unit{"etcd.service": {Active: true, State: "active/running"}}}
		sight(&member, &h)
		s.Members[m.Name], s.Hosts[m.Name] = member, h
	}
	return ms, s, gone
}

func TestAlive(t *testing.T) {
	for _, tt := range []struct {
		name, word string
		api        bool
		ended      []string
		want       bool
	}{
		{"all is well", "+++", true, nil, true},
		{"a member is down", "++-", true, nil, true},
		{"without API servers", "+++", false, nil, true},
		{"one linearizable read proves a majority, whatever the others show", "+--", false, nil, true},
		{"and so where SSH to another is cut and the third is down", "+-x", true, nil, true},
		{"etcd has no space left, and can be read", "!--", false, nil, true},
		{"two do not run: no majority", "--?", false, nil, false},
		{"two do not run, and a cache answers", "--?", true, nil, false},
		{"one does not run, one could not be reached, the third is slow", "-x?", false, nil, true},
		{"those that could not be reached may be a majority", "-xx", false, nil, true},
		{"one could not be reached, and no majority can be made with it", "--x", false, nil, false},
		{"five, two could not be reached, and one is slow", "xx?--", false, nil, true},
		{"five, two could not be reached, the others do not run", "xx---", false, nil, false},
		{"two machines do not exist", "gg?", false, nil, false},
		{"one machine does not exist, one cannot be reached", "gx+", false, nil, true},
		{"one machine does not exist, one cannot be reached, one is slow", "gx?", false, nil, true},
		{"no unit", "nn?", false, nil, false},
		{"one slow sample", "???", false, nil, true},
		{"one slow sample of two, one is down", "??-", false, nil, true},
		{"its unit is being stopped, but has not ended", "d?-", false, nil, true},
		{"they see no leader: broken peer certificates", "lll", false, nil, false},
		{"they see no leader now, and the API answers", "lll", true, nil, true},
		{"they start and fail, again and again", "aaa", false, nil, false},
		{"they start, and the API answers", "aa-", true, nil, true},
		{"expired certificates", "???", false, []string{"cp-1", "cp-2", "cp-3"}, false},
		{"expired certificates, and the API answers over old connections", "???", true, []string{"cp-1", "cp-2", "cp-3"}, false},
		{"most have expired, and the API answers", "???", true, []string{"cp-2", "cp-3"}, false},
		{"one has expired, the others could not be asked, and the API answers", "???", true, []string{"cp-2"}, true},
		{"one has expired, and the other members are healthy", "++?", true, []string{"cp-3"}, true},
		{"the only one is healthy", "+", true, nil, true},
		{"the only one does not run", "-", false, nil, false},
		{"the only one is slow", "?", false, nil, true},
	} {
		ended := map[string]bool{}
		for _, name := range tt.ended {
			ended[name] = true
		}
		ms, s, gone := sighted(tt.word)
		if got := Alive(ms, s, Signs{API: tt.api, Ended: ended, Gone: gone}); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
		for name, h := range s.Hosts {
			h.Facts.Initialized = false
			s.Hosts[name] = h
		}
		if Alive(ms, s, Signs{API: tt.api, Ended: ended, Gone: gone}) {
			t.Errorf("%s, but never up: it lives", tt.name)
		}
	}
}

// With SSH to one control plane cut while it works, and the etcd of another down, the other two must not be changed side by
// side: they are two of the three that are needed.
func TestOnlyOfALivingClusterOfWhichOneIsCutOff(t *testing.T) {
	ms, observed, _ := sighted("+-x")
	s := Situation{
		Machines: ms, Alive: Alive(ms, observed, Signs{API: true}), Initialized: true, Unobserved: []string{"cp-3"},
		Changes: changed("cp-1", "cp-2"),
	}
	some, _, err := s.Only([]string{"cp-1", "cp-2", "w-1"})
	if err != nil {
		t.Fatal(err)
	}
	steps := Schedule(some)
	before := closure(steps)
	for _, step := range steps {
		switch {
		case step.Verb == Install:
			t.Errorf("%q of a cluster that lives", step.Name)
		case step.Verb == Apply && step.Host == "cp-2" && !before[step.Name]["cp-1: wait for etcd"],
			step.Verb == Apply && !before[step.Name][step.Host+": check that etcd keeps its quorum"]:
			t.Errorf("%q waits for %q only", step.Name, step.Deps)
		}
	}
}
