package provision

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

func TestAlive(t *testing.T) {
	state := func(initialized bool, running, healthy int) State {
		s := State{Hosts: map[string]HostState{}, Members: map[string]Member{}}
		for i, m := range machines(3, 1) {
			h := HostState{Facts: Facts{Initialized: initialized}, Units: map[string]Unit{"etcd.service": {Active: i < running}}}
			s.Hosts[m.Name] = h
			s.Members[m.Name] = Member{Healthy: i < healthy}
		}
		return s
	}
	for _, tt := range []struct {
		name             string
		initialized      bool
		running, healthy int
		answers          bool
		ended            []string
		want             bool
	}{
		{"never up", false, 3, 3, true, nil, false},
		{"all is well", true, 3, 3, true, nil, true},
		{"a member is down", true, 2, 2, true, nil, true},
		{"no quorum runs", true, 1, 1, false, nil, false},
		{"no quorum runs, and a cache answers", true, 1, 1, true, nil, false},
		{"all API servers are down", true, 3, 3, false, nil, true},
		{"etcd runs and answers nobody: expired certificates", true, 3, 0, false, nil, false},
		{"etcd runs without a quorum: broken peer certificates", true, 3, 1, false, nil, false},
		{"etcd could not be asked, and the API answers", true, 3, 0, true, nil, true},
		{"etcd's certificates have expired, and the API answers over old connections", true, 3, 0, true, []string{"cp-1", "cp-2", "cp-3"}, false},
		{"most of etcd's certificates have expired, and the API answers", true, 3, 1, true, []string{"cp-2", "cp-3"}, false},
		{"one certificate has expired, the others could not be asked, and the API answers", true, 3, 0, true, []string{"cp-2"}, true},
		{"one certificate has expired, and the other members are healthy", true, 3, 2, true, []string{"cp-3"}, true},
	} {
		ended := map[string]bool{}
		for _, name := range tt.ended {
			ended[name] = true
		}
		if got := Alive(machines(3, 1), state(tt.initialized, tt.running, tt.healthy), tt.answers, ended); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// What members show is looked at where the API answers and they could not be asked: an end that has passed by the host's own
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
	ended := func(r *Runner, answers bool) string {
		return strings.Join(slices.Sorted(maps.Keys(r.endedMembers(t.Context(), answers))), " ")
	}
	r := runner()
	if got := ended(r, true); got != "demo-cp-1 demo-cp-3" {
		t.Errorf("ended have %q", got)
	}
	if got := ended(r, false); got != "" {
		t.Errorf("the API does not answer, and %q was asked", got)
	}
	r.Observed.Members = map[string]Member{"demo-cp-1": {Healthy: true}, "demo-cp-2": {Healthy: true}}
	if got := ended(r, true); got != "" {
		t.Errorf("a quorum is healthy, and %q was asked", got)
	}
	r = runner()
	for name, h := range r.Hosts {
		h.(served).at["10.89.0.11:2379"], h.(served).at["10.89.0.11:2380"] = "127.0.0.1:1", "127.0.0.1:1"
		if name == "demo-cp-3" {
			r.Hosts[name] = hosttest.NewMemory(name) // whose network cannot be reached
		}
	}
	if got := ended(r, true); got != "" {
		t.Errorf("nobody answers, and ended have %q", got)
	}
	r = runner()
	now := time.Now()
	for name, h := range r.Observed.Hosts { // a computer whose clock is ahead must not think that a cluster is at its end
		h.Facts.Clock = Clock{Read: now.Add(-3 * day / 2), Sent: now, Returned: now}
		r.Observed.Hosts[name] = h
	}
	if got := ended(r, true); got != "" {
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
