package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// upOf is the record of in as a cluster that has been up.
func upOf(in stack.Input, joined ...string) *Up {
	members := map[string]bool{}
	for _, m := range in.ControlPlanes() {
		members[m.Name] = len(joined) == 0 || slices.Contains(joined, m.Name)
	}
	return (*Up)(nil).Joined(in, time.Unix(1, 0), "cafe", members)
}

// foundAll is what a provider finds of in, without the machines named.
func foundAll(in stack.Input, without ...string) *spec.Infrastructure {
	infra := &spec.Infrastructure{States: map[string]string{}, Disks: map[string]string{}}
	for _, m := range in.Machines {
		if !slices.Contains(without, m.Name) {
			infra.Machines, infra.States[m.Name] = append(infra.Machines, m), spec.MachineRunning
		}
	}
	return infra
}

func TestPreflights(t *testing.T) {
	in := fixture.Input(t)
	cps := []string{"demo-cp-1", "demo-cp-2", "demo-cp-3"}
	foreign := foundAll(in)
	foreign.Foreign = []spec.Foreign{{Kind: "disk", Name: "demo-cp-1-abc", UID: "abc", Remove: "rm it"}}
	withDisk := func(infra *spec.Infrastructure, names ...string) *spec.Infrastructure {
		for _, name := range names {
			infra.Disks[name] = "volume " + name
		}
		return infra
	}
	stopped := foundAll(in)
	stopped.States["demo-worker-1"] = "exited"
	bad := foundAll(in, "demo-cp-2", "demo-worker-1")
	bad.Failed = map[string]error{"demo-cp-2": errors.New("it lacks a label"), "demo-worker-1": errors.New("it lacks a label")}
	five := fixture.Reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: 5}").Cluster
	one := fixture.Reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: 1}").Cluster
	moved := fixture.Reparsed(t, in, "provider: {local: {}}", "provider: {local: {}}\n  network: {podSubnet: 10.50.0.0/16}").Cluster
	for _, tt := range []struct {
		name  string
		spec  *spec.Cluster // in's unless given
		up    *Up
		found *spec.Infrastructure
		wish  Wish
		// changes as "action name", gone, and a part of the refusal
		changes, gone []string
		refused       string
	}{
		{name: "new", found: foundAll(in, append(cps, "demo-worker-1")...), changes: []string{"+ demo-cp-1", "+ demo-cp-2", "+ demo-cp-3", "+ demo-worker-1"}},
		{name: "all there", up: upOf(in), found: foundAll(in)},
		{name: "a control plane is gone", up: upOf(in), found: foundAll(in, "demo-cp-2"), gone: []string{"demo-cp-2"}},
		{name: "its disk is not", up: upOf(in), found: withDisk(foundAll(in, "demo-cp-2"), "demo-cp-2"), changes: []string{"+ demo-cp-2"}},
		{name: "it had never joined", up: upOf(in, "demo-cp-1", "demo-cp-3"), found: foundAll(in, "demo-cp-2"), changes: []string{"+ demo-cp-2"}},
		{name: "a worker is gone", up: upOf(in), found: foundAll(in, "demo-worker-1"), changes: []string{"+ demo-worker-1"}},
		{name: "all are gone, with their disks", up: upOf(in), found: foundAll(in, cps...), gone: cps, refused: "--rebuild-empty demo"},
		{name: "all are gone, not their disks", up: upOf(in), found: withDisk(foundAll(in, cps...), cps...), changes: []string{"+ demo-cp-1", "+ demo-cp-2", "+ demo-cp-3"}},
		{name: "and may be made empty", up: upOf(in), wish: Wish{RebuildEmpty: true}, found: foundAll(in, cps...), changes: []string{"+ demo-cp-1", "+ demo-cp-2", "+ demo-cp-3"}},
		{name: "nothing to rebuild", wish: Wish{RebuildEmpty: true}, found: foundAll(in, append(cps, "demo-worker-1")...), changes: []string{"+ demo-cp-1", "+ demo-cp-2", "+ demo-cp-3", "+ demo-worker-1"}, refused: "does not know that the cluster has ever been up"},
		{name: "another's", found: foreign, refused: "disk demo-cp-1-abc (of cluster UID abc)"},
		{name: "more control planes", spec: five, up: upOf(in), found: foundAll(in), refused: "demo-cp-4: the cluster has been up without this control plane", changes: []string{"+ demo-cp-4", "+ demo-cp-5"}},
		{name: "fewer control planes", spec: one, up: upOf(in), found: foundAll(in), refused: "demo-cp-2: this control plane is an etcd member"},
		{name: "fewer, of which none is known to have been up", spec: one, found: foundAll(in)},
		{name: "other networks", spec: moved, up: upOf(in), found: foundAll(in), refused: "spec.network.podSubnet was"},
		{name: "stopped", up: upOf(in), found: stopped, changes: []string{"~ demo-worker-1"}},
		{name: "stopped, and left out", up: upOf(in), found: stopped, wish: Wish{Only: cps}},
		{name: "there, and not known where: neither gone nor made", up: upOf(in), found: bad},
		{name: "missing, and left out", up: upOf(in), found: foundAll(in, "demo-worker-1"), wish: Wish{Only: cps}},
		{name: "a control plane with a disk, left out", up: upOf(in), found: withDisk(foundAll(in, "demo-cp-1"), "demo-cp-1"), wish: Wish{Only: cps[1:]}},
		{name: "a new control plane, left out", found: foundAll(in, cps...), wish: Wish{Only: cps[1:]}, changes: []string{"+ demo-cp-2", "+ demo-cp-3"}, refused: "demo-cp-1: this control plane has no machine yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spec == nil {
				tt.spec = in.Cluster
			}
			p, err := Preflights(tt.spec, Identity{UID: in.UID, Name: "demo", Up: tt.up}, tt.found, tt.wish)
			var changes []string
			for _, c := range p.Changes {
				changes = append(changes, string(c.Action)+" "+c.Name)
			}
			if !slices.Equal(changes, tt.changes) || !slices.Equal(p.GoneNames(), tt.gone) {
				t.Errorf("changes %q, want %q; gone %q, want %q", changes, tt.changes, p.GoneNames(), tt.gone)
			}
			if (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("error is %v, want %q", err, tt.refused)
			}
			for _, m := range p.Gone {
				if m.Address != netip.AddrFrom4([4]byte{10, 89, 0, byte(11 + slices.Index(cps, m.Name))}) {
					t.Errorf("%s is gone and was at %s", m.Name, m.Address)
				}
			}
		})
	}
}

// A cluster's data is never thought to be gone from everywhere while any host may have it, and one host that lost it keeps
// no other from being managed.
func TestRefuseWithoutData(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	for _, tt := range []struct {
		name       string
		hosts      map[string]string // what a control plane shows: "data", "none", "sealed" (up once, no data); absent: not reached
		up         *Up
		rebuild    bool
		held       []string
		cluster    string
		gone       []string
		notInState bool
	}{
		{name: "all have it", hosts: map[string]string{"1": "data", "2": "data", "3": "data"}, up: upOf(in)},
		{name: "one lost it", hosts: map[string]string{"1": "data", "2": "none", "3": "data"}, up: upOf(in), held: []string{"demo-cp-2"}},
		{name: "two lost it", hosts: map[string]string{"1": "data", "2": "none", "3": "none"}, up: upOf(in), held: []string{"demo-cp-2", "demo-cp-3"}},
		{name: "two lost it, one is cut off", hosts: map[string]string{"2": "none", "3": "none"}, up: upOf(in), held: []string{"demo-cp-2", "demo-cp-3"}},
		{name: "two lost it, one is gone", hosts: map[string]string{"2": "none", "3": "none"}, gone: []string{"demo-cp-1"}, up: upOf(in), cluster: "no control plane has etcd data"},
		{name: "all lost it", hosts: map[string]string{"1": "none", "2": "none", "3": "none"}, up: upOf(in), cluster: "etcd cluster cafe"},
		{name: "all lost it, and may begin again", hosts: map[string]string{"1": "none", "2": "sealed", "3": "none"}, up: upOf(in), rebuild: true},
		{name: "all but one lost it, and may begin again", hosts: map[string]string{"1": "none", "2": "none", "3": "data"}, up: upOf(in), rebuild: true, cluster: "demo-cp-3 still has etcd data"},
		{name: "one cannot be asked, and they may begin again", hosts: map[string]string{"1": "none", "2": "none"}, up: upOf(in), rebuild: true, cluster: "demo-cp-3 could not be observed"},
		{name: "that of one is damaged", hosts: map[string]string{"1": "data", "2": "damaged", "3": "data"}, up: upOf(in), held: []string{"demo-cp-2"}},
		{name: "that of all is lost or damaged", hosts: map[string]string{"1": "none", "2": "damaged", "3": "none"}, up: upOf(in), cluster: "that of demo-cp-2 is damaged"},
		{name: "damaged is not empty", hosts: map[string]string{"1": "none", "2": "damaged", "3": "none"}, up: upOf(in), rebuild: true, cluster: "demo-cp-2 has damaged etcd data"},
		{name: "one never joined", hosts: map[string]string{"1": "data", "2": "none", "3": "data"}, up: upOf(in, "demo-cp-1", "demo-cp-3")},
		{name: "the host knows that it had", hosts: map[string]string{"1": "data", "2": "sealed", "3": "data"}, up: upOf(in, "demo-cp-1", "demo-cp-3"), held: []string{"demo-cp-2"}},
		{name: "only a host knows", hosts: map[string]string{"1": "data+", "2": "none", "3": "none"}, notInState: true, held: []string{"demo-cp-2", "demo-cp-3"}},
		{name: "nobody knows: a first start that was cut short", hosts: map[string]string{"1": "data", "2": "none", "3": "none"}, notInState: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, observed := in, stack.State{Hosts: map[string]stack.HostState{}}
			in.BeenUp, in.RebuildEmpty, in.Gone = !tt.notInState, tt.rebuild, tt.gone
			if tt.rebuild {
				in.Generation = fixture.FirstBegun
			}
			for n, shows := range tt.hosts {
				f := stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true, EtcdData: strings.HasPrefix(shows, "data"), EtcdDamaged: shows == "damaged", Initialized: shows == "sealed" || shows == "data+", ClusterUID: in.UID}
				observed.Hosts["demo-cp-"+n] = stack.HostState{Facts: f}
			}
			r := Refuse(in, Before{Up: tt.up}, observed)
			var held []string
			for _, m := range in.Machines {
				if len(r.Hosts[m.Name]) > 0 {
					held = append(held, m.Name)
				}
			}
			cluster := strings.Join(r.Cluster, "; ")
			if !slices.Equal(held, tt.held) || (cluster != "") != (tt.cluster != "") || !strings.Contains(cluster, tt.cluster) {
				t.Errorf("held %q, want %q; refused %q, want %q", held, tt.held, cluster, tt.cluster)
			}
		})
	}
}

func TestAHostOfAnotherClusterIsHeld(t *testing.T) {
	in := fixture.Input(t)
	observed := observedAs(t, in)
	h := observed.Hosts["demo-worker-1"]
	h.Facts.ClusterUID, h.Facts.CgroupV2 = "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22", true
	observed.Hosts["demo-worker-1"] = h
	in.Cluster.Spec.AllowCgroupV1 = new(bool)
	*in.Cluster.Spec.AllowCgroupV1 = true
	r := Refuse(in, Before{}, observed)
	if len(r.Cluster) > 0 || len(r.Hosts) != 1 || len(r.Hosts["demo-worker-1"]) != 1 || !strings.Contains(r.Hosts["demo-worker-1"][0], "0b7c1c3e") {
		t.Errorf("refused: %+v", r)
	}
}

// The way out for who has only a state of before clusters had UIDs is named, and to nobody else.
func TestForeignMachinesOfAnOlderState(t *testing.T) {
	in := fixture.Input(t)
	foreign := func(uids ...string) *spec.Infrastructure {
		infra := foundAll(in)
		for _, uid := range uids {
			infra.Foreign = append(infra.Foreign, spec.Foreign{Kind: "machine", Name: "demo-cp-1", UID: uid, Remove: "rm it"})
		}
		return infra
	}
	for name, tt := range map[string]struct {
		older bool
		found *spec.Infrastructure
		hint  string
	}{
		"one UID":                {older: true, found: foreign("abc", "abc"), hint: "write `uid: abc` into the metadata"},
		"two UIDs":               {older: true, found: foreign("abc", "def")},
		"no UID":                 {older: true, found: foreign("")},
		"a state that knows its": {found: foreign("abc")},
		"that of the spec":       {older: true, found: foreign(in.UID), hint: "no machine has the SSH keys"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo", Older: tt.older}, tt.found, Wish{})
			if err == nil || !strings.Contains(err.Error(), tt.hint) || tt.hint == "" && strings.Contains(err.Error(), "write `uid") {
				t.Errorf("error %v, want %q", err, tt.hint)
			}
		})
	}
}

// With another cluster's UID in its spec a state takes over nothing: hosts that have been up show keys that it has not got.
func TestAnothersUIDTakesNothingOver(t *testing.T) {
	theirs, mine := fixture.Input(t), fixture.Input(t)
	mine.UID = theirs.UID
	observed := observedAs(t, theirs)
	for name, h := range observed.Hosts {
		h.Facts.Initialized, h.Facts.EtcdData, h.Facts.ClusterUID = true, true, theirs.UID
		observed.Hosts[name] = h
	}
	if r := Refuse(theirs, Before{}, observed); len(r.Cluster) > 0 {
		t.Errorf("its own state is refused: %q", r.Cluster)
	}
	if r := Refuse(mine, Before{}, observed); len(r.Cluster) < 3 || !strings.Contains(r.Cluster[0], "with another state than the one that the spec names") {
		t.Errorf("another's state is taken for its own: %q", r.Cluster)
	}
}
