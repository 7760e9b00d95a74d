package plan

import (
	"maps"
	"testing"

	"slipway.dev/slipway/testing/fixture"
)

// TestScheduleOfDeliveries: programs are copied to all hosts at once, before what was proven could
// grow old.
func TestScheduleOfDeliveries(t *testing.T) {
	changes := changed("cp-1", "w-1", "w-2")
	for _, name := range []string{"cp-1", "w-1", "w-2"} {
		changes = append(changes, Change{Host: name, Kind: ProgramChange, Name: "/opt/slipway/x", Action: Update, Copy: 5})
	}
	for name, test := range map[string]struct {
		situation Situation
		want      string
	}{
		"living": {Situation{Alive: true}, `cp-1: copy programs
cp-1: check that etcd keeps its quorum <- cp-1: copy programs
cp-1: apply changes <- cp-1: check that etcd keeps its quorum
cp-1: wait for the units <- cp-1: apply changes
cp-1: wait for etcd <- cp-1: wait for the units
cp-1: wait for the node <- cp-1: wait for etcd
w-1: copy programs
w-1: apply changes <- cp-1: wait for the node, w-1: copy programs
w-1: wait for the units <- w-1: apply changes
w-1: wait for the node <- w-1: wait for the units
w-2: copy programs
w-2: apply changes <- w-1: wait for the node, w-2: copy programs
w-2: wait for the units <- w-2: apply changes
w-2: wait for the node <- w-2: wait for the units
cluster: wait until it can be used <- w-2: wait for the node
`},
		"down": {Situation{Initialized: true}, `cp-1: copy programs
cluster: check that it is down <- cp-1: copy programs
cp-1: install <- cluster: check that it is down
cluster: wait for the API <- cp-1: install
cp-1: wait for the units <- cp-1: install
w-1: copy programs
w-1: apply changes <- cluster: wait for the API, w-1: copy programs
w-1: wait for the units <- w-1: apply changes
w-1: wait for the node <- w-1: wait for the units
w-2: copy programs
w-2: apply changes <- w-1: wait for the node, w-2: copy programs
w-2: wait for the units <- w-2: apply changes
w-2: wait for the node <- w-2: wait for the units
cluster: wait until it can be used <- cp-1: wait for the units, w-2: wait for the node
`},
		"first": {Situation{}, `cp-1: copy programs
w-1: copy programs
w-2: copy programs
cp-1: install <- cp-1: copy programs
w-1: install <- w-1: copy programs
w-2: install <- w-2: copy programs
cluster: wait for the API <- cp-1: install
cp-1: wait for the units <- cp-1: install
w-1: wait for the units <- w-1: install
w-2: wait for the units <- w-2: install
cluster: wait until it can be used <- cluster: wait for the API, cp-1: wait for the units, w-1: wait for the units, w-2: wait for the units
`},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.situation
			s.Machines, s.Changes = fixture.Machines(1, 2), changes
			if got := listed(Schedule(s)); got != test.want {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}

// TestWhereArtifactsAreIsNoChange: what was recorded does not know where this computer has the
// bundle, and needs not.
func TestWhereArtifactsAreIsNoChange(t *testing.T) {
	in := fixture.Blind(fixture.Input(t))
	read := before(t, in).Applied
	was, is := read.Programs["amd64"], in.Artifacts["amd64"]
	if maps.Equal(was, is) || !was.Same(is) {
		t.Errorf("recorded are %+v", was["etcd"])
	}
	base := in
	if factors, err := read.factors(in, &base); err != nil || len(factors) > 0 {
		t.Errorf("%d factors, %v", len(factors), err)
	}
}
