package converge

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// What members show is looked at where a majority may run and none answers: an end that has passed by the host's own
// clock counts, and a port that does not answer does not.
func TestEndedMembers(t *testing.T) {
	const day = 24 * time.Hour
	in := fixture.Input(t)
	expired := fixture.PKIFor(t, in, day, time.Now().Add(-2*day))
	runner := func() *View {
		r := &View{Input: in, Hosts: map[string]host.Host{}, Observed: stack.State{Hosts: map[string]stack.HostState{}}}
		for _, m := range in.ControlPlanes() {
			h := served{hosttest.NewMemory(m.Name), map[string]string{}}
			for _, row := range stack.Endpoints() {
				pki := expired
				if m.Name == "demo-cp-2" || m.Name == "demo-cp-3" && row.Port == stack.EtcdClientPort {
					pki = in.PKI
				}
				if row.Unit == "etcd.service" {
					c := component{kind: "etcd", row: row, taken: map[string][]byte{certs.EtcdCA: in.PKI.Bundle(certs.EtcdCA)}}
					h.at[row.Address(stack.CertsNode(m))] = c.start(t, leafOf(pki, row.Cert, m.Name))
				}
			}
			r.Hosts[m.Name] = h
			r.Observed.Hosts[m.Name] = stack.HostState{Units: map[string]stack.Unit{"etcd.service": {Active: true}}, Facts: stack.Facts{Initialized: true}}
		}
		return r
	}
	ended := func(r *View) string {
		return strings.Join(slices.Sorted(maps.Keys(r.endedMembers(t.Context(), r.Observed))), " ")
	}
	r := runner()
	if got := ended(r); got != "demo-cp-1 demo-cp-3" {
		t.Errorf("ended have %q", got)
	}
	r.Observed.Members = map[string]stack.Member{"demo-cp-2": {Answers: true}}
	if got := ended(r); got != "" {
		t.Errorf("a member answers, and %q was asked", got)
	}
	r = runner()
	for _, name := range []string{"demo-cp-1", "demo-cp-2"} {
		r.Observed.Hosts[name] = stack.HostState{Units: map[string]stack.Unit{"etcd.service": {State: "failed/failed"}}, Facts: stack.Facts{Initialized: true}}
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
		h.Facts.Clock = stack.Clock{Read: now.Add(-3 * day / 2), Sent: now, Returned: now}
		r.Observed.Hosts[name] = h
	}
	if got := ended(r); got != "" {
		t.Errorf("by the hosts' clocks nothing has ended, and %q was found", got)
	}
}
