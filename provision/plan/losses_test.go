package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// A cluster begins again without its data only where no control plane that it had has any left: one that the spec no longer
// has, or has under another name, has all of it.
func TestRebuildEmptyLooksAtControlPlanesThatLeftTheSpec(t *testing.T) {
	in := fixture.Input(t)
	one := fixture.Reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: 1}").Cluster
	renamed := fixture.Reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: main, role: control-plane, replicas: 3}").Cluster
	wanted := func(c *spec.Cluster, name string) bool {
		for _, n := range c.Nodes() {
			if n.Name == name {
				return true
			}
		}
		return false
	}
	for name, c := range map[string]*spec.Cluster{"two of three are out of the spec": one, "the pool was renamed": renamed} {
		t.Run(name, func(t *testing.T) {
			found := &spec.Infrastructure{States: map[string]string{}, Disks: map[string]string{}}
			for _, m := range foundAll(in).Machines {
				found.States[m.Name] = spec.MachineRunning
				if wanted(c, m.Name) {
					found.Machines = append(found.Machines, m)
				} else {
					found.Surplus = append(found.Surplus, m) // it runs, with etcd's data
				}
			}
			if _, err := Preflights(c, Identity{UID: in.UID, Name: "demo", Up: upOf(in)}, found, Wish{RebuildEmpty: true}); err == nil {
				t.Errorf("an empty cluster is begun beside control planes that run with its data")
			}
			_, err := Preflights(c, Identity{UID: in.UID, Name: "demo", Up: upOf(in)}, found, Wish{})
			if err == nil || strings.Contains(err.Error(), "its data is gone from here") {
				t.Errorf("all control planes run, and what is said is: %v", err)
			}
		})
	}
}

// Shows is an observation of control planes by their facts; the others are not reached.
func shows(facts map[string]stack.Facts) stack.State {
	s := stack.State{Hosts: map[string]stack.HostState{}}
	for name, f := range facts {
		f.Systemd, f.Arch, f.CgroupV2 = true, "amd64", true
		s.Hosts[name] = stack.HostState{Facts: f}
	}
	return s
}

// The state knows that the API has answered, so most members had data. Where fewer have it now, some member that voted has
// lost it, and most may not begin without: they would be a majority that knows nothing, also before any is known as joined.
func TestMostMembersDoNotBeginWithoutData(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	up := upOf(in, "none") // as RecordUp leaves it, when the run is killed before it seals
	observed := shows(map[string]stack.Facts{"demo-cp-1": {EtcdData: true, ClusterUID: in.UID}, "demo-cp-2": {}, "demo-cp-3": {}})
	if r := Refuse(in, Before{Up: up}, observed); r.err() == nil {
		t.Error("two of three begin with an empty store beside one with data")
	}
	p, err := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo", Up: up}, foundAll(in, "demo-cp-2", "demo-cp-3"), Wish{})
	if err == nil && len(p.Gone) == 0 {
		t.Error("and two machines are made with new disks, though most had data")
	}
}

// A control plane of another cluster is left alone and named (docs/safety.md, foreign-host). The others go on.
func TestOneStrangeControlPlaneDoesNotStopTheOthers(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	for name, uid := range map[string]string{"another cluster's": "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22"} {
		t.Run(name, func(t *testing.T) {
			observed := observedAs(t, in)
			for name, h := range observed.Hosts {
				h.Facts = stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true, Initialized: true, EtcdData: true, ClusterUID: in.UID}
				if name == "demo-cp-3" {
					h.Facts.ClusterUID = uid
					h.Owned[stack.AuthoritiesFile] = stack.Digest([]byte("other authorities"))
				}
				observed.Hosts[name] = h
			}
			r := Refuse(in, Before{Up: upOf(in)}, observed)
			if len(r.Cluster) > 0 || len(r.Hosts["demo-cp-3"]) == 0 {
				t.Errorf("nothing is done anywhere: %q", r.Cluster)
			}
		})
	}
}

// What a stranger has under a control plane's name is not the cluster's data: most members are not there with it.
func TestAStrangersDataIsNotOurs(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	stranger := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22"}
	up := upOf(in, "demo-cp-1")
	r := Refuse(in, Before{Up: up}, shows(map[string]stack.Facts{"demo-cp-1": {EtcdData: true}, "demo-cp-2": stranger, "demo-cp-3": {}}))
	if len(r.Cluster) > 0 || len(r.Hosts["demo-cp-1"]) > 0 || len(r.Hosts["demo-cp-2"]) != 1 || len(r.Hosts["demo-cp-3"]) == 0 {
		t.Errorf("one of three has data, and held is %v; refused %q", r.Hosts, r.Cluster)
	}
	r = Refuse(in, Before{Up: up}, shows(map[string]stack.Facts{"demo-cp-1": {}, "demo-cp-2": stranger, "demo-cp-3": {}}))
	if len(r.Cluster) != 1 || !strings.Contains(r.Cluster[0], "no control plane has etcd data; demo-cp-2 is part of another cluster") {
		t.Errorf("none has data, and refused is %q", r.Cluster)
	}
}

// A machine that was set up as another node is not turned into the one that has its address now.
func TestMachinesThatAreTakenForOthers(t *testing.T) {
	in := fixture.Input(t)
	for name, tt := range map[string]struct {
		facts map[string]stack.Facts
		held  []string
	}{
		"exchanged": {map[string]stack.Facts{
			"demo-cp-1":     {EtcdData: true, Initialized: true, ClusterUID: in.UID, Node: "demo-cp-2"},
			"demo-cp-2":     {EtcdData: true, Initialized: true, ClusterUID: in.UID, Node: "demo-cp-1"},
			"demo-cp-3":     {EtcdData: true, Initialized: true, ClusterUID: in.UID, Node: "demo-cp-3"},
			"demo-worker-1": {Initialized: true, ClusterUID: in.UID},
		}, []string{"demo-cp-1", "demo-cp-2"}},
		"twice, and not up yet": {map[string]stack.Facts{
			"demo-cp-1": {ClusterUID: in.UID, Node: "demo-cp-1"}, "demo-worker-1": {ClusterUID: in.UID, Node: "demo-cp-1"},
		}, []string{"demo-worker-1"}},
		"renamed":                 {map[string]stack.Facts{"demo-worker-1": {Initialized: true, ClusterUID: in.UID, Node: "old"}}, []string{"demo-worker-1"}},
		"renamed, and not up yet": {map[string]stack.Facts{"demo-worker-1": {ClusterUID: in.UID, Node: "old"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			held := map[string]string{}
			for host, reasons := range Refuse(in, Before{Up: upOf(in, "demo-cp-1", "demo-cp-2", "demo-cp-3")}, shows(tt.facts)).Hosts {
				for _, why := range reasons {
					if strings.HasPrefix(why, "the machine is the node "+tt.facts[host].Node+" of this cluster") {
						held[host] = why
					}
				}
			}
			if got := slices.Sorted(maps.Keys(held)); !slices.Equal(got, tt.held) {
				t.Errorf("held are %q, want %q", got, tt.held)
			}
		})
	}
}

// A new cluster does not begin with the etcd data that another installer has left, and does not touch it.
func TestEtcdDataOfAnotherInstaller(t *testing.T) {
	in := fixture.Input(t)
	observed := shows(map[string]stack.Facts{
		"demo-cp-1": {EtcdData: true}, "demo-cp-2": {}, "demo-cp-3": {EtcdData: true, ClusterUID: in.UID}, "demo-worker-1": {EtcdData: true},
	})
	r := Refuse(in, Before{}, observed)
	for name, held := range map[string]bool{"demo-cp-1": true, "demo-cp-2": false, "demo-cp-3": false, "demo-worker-1": false} {
		got := slices.ContainsFunc(r.Hosts[name], func(why string) bool { return strings.Contains(why, "another installer has left it") })
		if got != held {
			t.Errorf("%s: held for %q", name, r.Hosts[name])
		}
	}
	h := observed.Hosts["demo-cp-1"]
	h.Owned = map[string]string{"/etc/x": ""} // by an older slipway, without a UID
	observed.Hosts["demo-cp-1"] = h
	if r := Refuse(in, Before{}, observed); strings.Contains(strings.Join(r.Hosts["demo-cp-1"], ""), "another installer") {
		t.Errorf("an interrupted installation is held: %q", r.Hosts["demo-cp-1"])
	}
}

// A new cluster is not taken for one that has been up since one of its hosts is another cluster's.
func TestAStrangersRecordIsNotOurs(t *testing.T) {
	in := fixture.Input(t)
	observed := shows(map[string]stack.Facts{"demo-cp-1": {}, "demo-cp-2": {}, "demo-cp-3": {}, "demo-worker-1": {
		Initialized: true, ClusterUID: "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22",
	}})
	if BeenUp(in, observed) {
		t.Error("what another cluster has recorded counts as ours")
	}
	if r := Refuse(in, Before{}, observed); len(r.Cluster) > 0 {
		t.Errorf("refused: %q", r.Cluster)
	}
}

// Where only hosts know that the cluster has been up, it keeps the networks that they were installed with.
func TestNetworksThatOnlyHostsKnow(t *testing.T) {
	in := fixture.Input(t)
	n := in.Cluster.Spec.Network
	as := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: in.UID, PodSubnet: n.PodSubnet, ServiceSubnet: n.ServiceSubnet, DNSDomain: n.DNSDomain}
	for name, tt := range map[string]struct {
		change func(*stack.Facts)
		up     *Up
		want   string
	}{
		"as they are":            {change: func(*stack.Facts) {}},
		"not known":              {change: func(f *stack.Facts) { f.PodSubnet, f.ServiceSubnet, f.DNSDomain = "", "", "" }},
		"other pods":             {change: func(f *stack.Facts) { f.PodSubnet = "10.50.0.0/16" }, want: "spec.network.podSubnet was 10.50.0.0/16"},
		"other services":         {change: func(f *stack.Facts) { f.ServiceSubnet = "10.60.0.0/16" }, want: "spec.network.serviceSubnet was 10.60.0.0/16"},
		"another domain":         {change: func(f *stack.Facts) { f.DNSDomain = "example.org" }, want: "spec.network.dnsDomain was example.org"},
		"drift, the state knows": {change: func(f *stack.Facts) { f.PodSubnet = "10.50.0.0/16" }, up: upOf(in)},
		"a stranger's": {change: func(f *stack.Facts) {
			f.PodSubnet, f.ClusterUID = "10.50.0.0/16", "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22"
		}},
		"of one that was not up": {change: func(f *stack.Facts) { f.PodSubnet, f.Initialized = "10.50.0.0/16", false }},
	} {
		t.Run(name, func(t *testing.T) {
			changed := as
			tt.change(&changed)
			r := Refuse(in, Before{Up: tt.up}, shows(map[string]stack.Facts{"demo-cp-1": as, "demo-cp-2": changed, "demo-cp-3": changed}))
			if len(r.Cluster) != min(len(tt.want), 1) || tt.want != "" && !strings.Contains(r.Cluster[0], tt.want) {
				t.Errorf("refused %q, want %q", r.Cluster, tt.want)
			}
		})
	}
}

// Who is told that the API is another cluster's is told what to do, whichever of the two is right.
func TestCheckUID(t *testing.T) {
	in := fixture.Input(t)
	if err := cmp.Or(CheckUID(in, in.UID), CheckUID(in, "")); err != nil {
		t.Error(err)
	}
	err := CheckUID(in, "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22")
	for _, word := range []string{"0b7c1c3e", in.UID, "SLIPWAY_STATE_DIR", "kubectl -n kube-system delete configmap slipway-cluster"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v, without %q", err, word)
		}
	}
}

// Disks that --only leaves out are not gone: nobody is told that the data is, nor to begin without it.
func TestDataThatOnlyLeavesOutIsNotGone(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	found := foundAll(in, "demo-cp-1", "demo-cp-3")
	found.Disks["demo-cp-1"], found.Disks["demo-cp-3"] = "volume demo-cp-1", "volume demo-cp-3"
	p, err := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo", Up: upOf(in)}, found, Wish{Only: []string{"demo-cp-2"}})
	if err != nil {
		t.Fatal(err)
	}
	in.Gone = p.GoneNames()
	r := Refuse(in, Before{Up: upOf(in)}, shows(map[string]stack.Facts{"demo-cp-2": {ClusterUID: in.UID}}))
	if text := strings.Join(r.Cluster, "; "); strings.Contains(text, "--rebuild-empty") {
		t.Errorf("two disks have all data, and what is said is: %s", text)
	}
}
