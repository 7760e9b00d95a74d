package provision

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/hosttest"
)

// sights are what can be seen of a control plane.
var sights = map[byte]func(m *Member, h *HostState){
	'+': func(m *Member, _ *HostState) { m.Healthy, m.Answers = true, true },
	'!': func(m *Member, _ *HostState) { m.Answers, m.Problem = true, "alarm NOSPACE" },
	'?': func(m *Member, _ *HostState) { m.Problem = "context deadline exceeded" }, // slow
	'l': func(m *Member, _ *HostState) { m.Out, m.Problem = true, "no leader" },
	'-': func(m *Member, h *HostState) {
		h.Units["etcd.service"], m.Out = Unit{State: "failed/failed"}, true
	},
	'a': func(m *Member, h *HostState) {
		h.Units["etcd.service"], m.Out = Unit{State: "activating/auto-restart"}, true
	},
	'd': func(_ *Member, h *HostState) { h.Units["etcd.service"] = Unit{State: "deactivating/stop-sigterm"} },
	'n': func(_ *Member, h *HostState) { delete(h.Units, "etcd.service") },
}

// sighted makes of a word a state: a letter of sights a control plane, "x" for one that could not be reached, "g" for one whose
// machine does not exist.
func sighted(word string) ([]spec.Machine, State, []string) {
	ms := machines(len(word), 1)
	s := State{Hosts: map[string]HostState{"w-1": {}}, Members: map[string]Member{}}
	var gone []string
	for i, m := range ms[:len(word)] {
		sight, ok := sights[word[i]]
		if !ok {
			if s.Members[m.Name] = (Member{Problem: "not asked"}); word[i] == 'g' {
				gone = append(gone, m.Name)
			}
			continue
		}
		member, h := Member{}, HostState{Facts: Facts{Initialized: true}, Units: map[string]Unit{"etcd.service": {Active: true, State: "active/running"}}}
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

// A member with an alarm is a difference that a plan names, and no sign that the cluster is down.
func TestMembersWithAlarms(t *testing.T) {
	full := &etcd.AlarmError{Alarms: []string{etcd.NoSpace}}
	found := membersOf([]etcd.Member{
		{Name: "cp-1", Answers: true, Alarms: full.Alarms, Err: full},
		{Name: "cp-2", Err: errors.New("refused"), Out: true},
		{Name: "cp-3", Answers: true, Healthy: true},
		{Name: "cp-4", Healthy: true, Learner: true},
	})
	if m := found["cp-1"]; !m.Answers || m.Healthy || m.Out {
		t.Errorf("a member with an alarm is %+v", m)
	}
	if m := found["cp-2"]; m.Answers || m.Healthy || !m.Out {
		t.Errorf("one that refuses is %+v", m)
	}
	if m := found["cp-4"]; m.Answers || m.Healthy {
		t.Errorf("a learner is %+v", m)
	}
	changes := Diff(State{Members: map[string]Member{"cp-1": {}, "cp-3": {}}}, State{Members: map[string]Member{"cp-1": found["cp-1"], "cp-3": found["cp-3"]}})
	if len(changes) != 1 || changes[0].Kind != MemberChange || changes[0].Host != "cp-1" || !strings.Contains(changes[0].Reason, etcd.NoSpace) {
		t.Errorf("the plan has %+v", changes)
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
			step.Verb == Apply && !before[step.Name][step.Host+": prove that etcd can spare it"]:
			t.Errorf("%q waits for %q only", step.Name, step.Deps)
		}
	}
}

// What members show is looked at where a majority may run and none answers: an end that has passed by the host's own
// clock counts, and a port that does not answer does not.
func TestEndedMembers(t *testing.T) {
	const day = 24 * time.Hour
	in := input(t)
	expired := pkiFor(t, in, day, time.Now().Add(-2*day))
	runner := func() *Runner {
		r := &Runner{Input: in, Hosts: map[string]host.Host{}, Observed: State{Hosts: map[string]HostState{}}}
		for _, m := range in.controlPlanes() {
			h := served{hosttest.NewMemory(m.Name), map[string]string{}}
			for _, row := range endpointTable {
				pki := expired
				if m.Name == "demo-cp-2" || m.Name == "demo-cp-3" && row.port == etcdClient {
					pki = in.PKI
				}
				if row.unit == "etcd.service" {
					c := component{kind: "etcd", row: row, taken: map[string][]byte{certs.EtcdCA: in.PKI.Bundle(certs.EtcdCA)}}
					h.at[row.address(certsNode(m))] = c.start(t, leafOf(pki, row.cert, m.Name))
				}
			}
			r.Hosts[m.Name] = h
			r.Observed.Hosts[m.Name] = HostState{Units: map[string]Unit{"etcd.service": {Active: true}}, Facts: Facts{Initialized: true}}
		}
		return r
	}
	ended := func(r *Runner) string {
		return strings.Join(slices.Sorted(maps.Keys(r.endedMembers(t.Context(), r.Observed))), " ")
	}
	r := runner()
	if got := ended(r); got != "demo-cp-1 demo-cp-3" {
		t.Errorf("ended have %q", got)
	}
	r.Observed.Members = map[string]Member{"demo-cp-2": {Answers: true}}
	if got := ended(r); got != "" {
		t.Errorf("a member answers, and %q was asked", got)
	}
	r = runner()
	for _, name := range []string{"demo-cp-1", "demo-cp-2"} {
		r.Observed.Hosts[name] = HostState{Units: map[string]Unit{"etcd.service": {State: "failed/failed"}}, Facts: Facts{Initialized: true}}
	}
	if got := ended(r); got != "" {
		t.Errorf("no majority runs, and %q was asked", got)
	}
	r = runner()
	for name, h := range r.Hosts {
		h.(served).at["10.89.0.11:2379"], h.(served).at["10.89.0.11:2380"] = "127.0.0.1:1", "127.0.0.1:1"
		if name == "demo-cp-3" {
			r.Hosts[name] = hosttest.NewMemory(name) // whose network cannot be reached
		}
	}
	if got := ended(r); got != "" {
		t.Errorf("nobody answers, and ended have %q", got)
	}
	r = runner()
	now := time.Now()
	for name, h := range r.Observed.Hosts { // a computer whose clock is ahead must not think that a cluster is at its end
		h.Facts.Clock = Clock{Read: now.Add(-3 * day / 2), Sent: now, Returned: now}
		r.Observed.Hosts[name] = h
	}
	if got := ended(r); got != "" {
		t.Errorf("by the hosts' clocks nothing has ended, and %q was found", got)
	}
}

// pkiFor is the PKI of an input as it would have been issued at a time, with leaves of some lifetime.
func pkiFor(t *testing.T, in Input, lifetime time.Duration, at time.Time) *certs.PKI {
	t.Helper()
	policy := testPolicy
	policy.LeafValidity = lifetime
	pki, _, err := certs.Ensure(t.Context(), nil, in.PKI.Requests, policy, at)
	if err != nil {
		t.Fatal(err)
	}
	return pki
}
