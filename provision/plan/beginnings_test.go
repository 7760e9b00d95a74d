package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// A rebuild was cut short on one control plane; then the disks of the two others came back, and an apply without the flag has
// gone on with them, as docs/safety.md says. The state knows that, and the next apply must go on with them as well.
func TestReturnedDisksStayTheCluster(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	id := Identity{UID: in.UID, Name: "demo", Up: upOf(in), Rebuilding: fixture.FirstBegun}
	id = id.Recorded("", func(was *Up) *Up { return was }) // RecordLiving of the run that went on with the disks
	in.Generation, in.Rebuilding = id.Generation, id.Rebuilding
	old, fresh := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: in.UID}, stack.Facts{EtcdData: true, ClusterUID: in.UID, Generation: fixture.FirstBegun}
	observed := shows(map[string]stack.Facts{"demo-cp-1": old, "demo-cp-2": old, "demo-cp-3": fresh})
	in.Adopt(observed)
	Forget(in, observed)
	r := Refuse(in, Before{Up: id.Up}, observed)
	if in.Generation != "" || len(r.Hosts["demo-cp-1"]) > 0 || len(r.Hosts["demo-cp-2"]) > 0 {
		t.Errorf("the living cluster is of generation %q now, and its members with data are told: %q", in.Generation, r.Hosts)
	}
}

// What is recorded first of a new generation names all control planes, whoever records it: a member that was healed, or a
// cluster that lives and whose etcd has not answered in time.
func TestFirstRecordOfAGenerationHasAllControlPlanes(t *testing.T) {
	for name, members := range map[string]map[string]bool{"living, etcd is slow": {}, "one is sealed": {"demo-cp-1": true}} {
		t.Run(name, func(t *testing.T) {
			in := fixture.Input(t)
			id := Identity{UID: in.UID, Name: "demo", Up: upOf(in), Rebuilding: fixture.FirstBegun}
			id = id.Recorded(fixture.FirstBegun, func(was *Up) *Up { return was.Joined(in, time.Unix(1, 0), "", members) })
			if _, err := Preflights(in.Cluster, id, foundAll(in), Wish{}); err != nil {
				t.Errorf("the next apply: %v", err)
			}
		})
	}
}

// Somebody has removed /var/lib/etcd below members that run: they answer, and have all data in files that are open still.
func TestRebuildEmptyWhereMembersRun(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp, in.RebuildEmpty, in.Generation = true, true, fixture.FirstBegun
	facts := stack.Facts{Initialized: true, ClusterUID: in.UID}
	observed := shows(map[string]stack.Facts{"demo-cp-1": facts, "demo-cp-2": facts, "demo-cp-3": facts})
	for name, h := range observed.Hosts {
		h.Units = map[string]stack.Unit{stack.EtcdService: {Active: true, State: "active/running"}}
		observed.Hosts[name] = h
	}
	observed.Members = map[string]stack.Member{"demo-cp-1": {Answers: true, Healthy: true}, "demo-cp-2": {Answers: true, Healthy: true}, "demo-cp-3": {Answers: true, Healthy: true}}
	Forget(in, observed)
	if r := Refuse(in, Before{Up: upOf(in)}, observed); len(r.Cluster) == 0 {
		t.Errorf("an empty etcd is begun in place of members that run; alive is %t, so it is recorded as up in the new generation before anything is done",
			Alive(in.Machines, observed, Signs{BeenUp: in.BeenUp}))
	}
}

// A state restored from the middle of a rebuild that has long come to its end: its generation has been up, and two of three
// members have lost their data since.
func TestRebuildEmptyOfABeginningThatHasBeenUp(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp, in.RebuildEmpty, in.Generation, in.Rebuilding = true, true, fixture.FirstBegun, fixture.FirstBegun
	lived := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: in.UID, Generation: fixture.FirstBegun}
	observed := shows(map[string]stack.Facts{"demo-cp-1": lived, "demo-cp-2": {}, "demo-cp-3": {}})
	if r := Refuse(in, Before{Up: upOf(in)}, observed); len(r.Cluster) == 0 {
		t.Errorf("two empty members begin, and outvote the one that has the data of a cluster that has been up; left alone: %v", r.Hosts)
	}
}

// docs/decisions/2026-11-27: before the first object is applied, the state records that the cluster is up.
func TestManifestsWaitForTheRecord(t *testing.T) {
	steps := Schedule(Situation{Machines: fixture.Machines(3, 1), Unrecorded: true, APIError: "no API server runs", Changes: changed("cp-1", "cp-2", "cp-3", "worker-1")})
	before := closure(steps)
	record := steps[slices.IndexFunc(steps, func(s Step) bool { return s.Verb == RecordUp })].Name
	for _, s := range steps {
		if (s.Verb == ApplyManifests || s.Verb == StartLate) && !before[s.Name][record] {
			t.Errorf("%q does not wait for the record, and goes on where that fails:\n%s", s.Name, listed(steps))
		}
	}
}

// Only hosts know that the cluster has been up, and all data is lost: one of the two ways out has to be one.
func TestEmptyWhereOnlyHostsKnow(t *testing.T) {
	in := fixture.Input(t)
	facts := stack.Facts{Initialized: true, ClusterUID: in.UID}
	r := Refuse(in, Before{}, shows(map[string]stack.Facts{"demo-cp-1": facts, "demo-cp-2": facts, "demo-cp-3": facts}))
	_, err := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo"}, foundAll(in), Wish{RebuildEmpty: true})
	if strings.Contains(strings.Join(r.Cluster, ""), "--rebuild-empty") && err != nil {
		t.Errorf("without the flag: %q; with it: %v", r.Cluster, err)
	}
}

// A rebuild is how networks change. A state restored from before it knows those of before, and asks to put them back.
func TestAdoptedGenerationHasItsOwnNetworks(t *testing.T) {
	in := fixture.Input(t) // with the networks of before, as the state wants them
	in.BeenUp = true
	now := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: in.UID, Generation: fixture.FirstBegun, PodSubnet: "10.50.0.0/16", ServiceSubnet: "10.60.0.0/16", DNSDomain: "example.org"}
	observed := shows(map[string]stack.Facts{"demo-cp-1": now, "demo-cp-2": now, "demo-cp-3": now})
	before := Before{Up: upOf(in)}
	if in.Adopt(observed) {
		before = Before{} // as Runner.observeHosts has it
	}
	if r := Refuse(in, before, observed); in.Generation != fixture.FirstBegun || len(r.Cluster) == 0 {
		t.Errorf("generation %q is adopted, and a living cluster gets other networks than all its hosts have", in.Generation)
	}
}
