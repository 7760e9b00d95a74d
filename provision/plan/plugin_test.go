package plan

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// A cluster that has been up gets another network plugin only where that is allowed: before anything is made or touched, and
// again once the hosts were seen.
func TestAnotherPluginIsRefused(t *testing.T) {
	in := fixture.Input(t)
	unrecorded := upOf(in)
	unrecorded.Plugin = ""
	for _, tt := range []struct {
		name    string
		up      *Up
		plugin  string
		allowed bool
		refused []string
	}{
		{name: "the same", up: upOf(in), plugin: "flannel"},
		{
			name: "flannel goes", up: upOf(in), plugin: "none",
			refused: []string{"spec.network.plugin was flannel and is none", "pods lose their network on every node", "put it back", "apply --allow-plugin-change`"},
		},
		{
			name: "flannel comes", up: upOf(fixture.WithPlugin(t, in, "none")), plugin: "flannel",
			refused: []string{"spec.network.plugin was none and is flannel", "next to the plugin that you have installed", "apply --allow-plugin-change`"},
		},
		{name: "flannel goes, and may", up: upOf(in), plugin: "none", allowed: true},
		{name: "flannel comes, and may", up: upOf(fixture.WithPlugin(t, in, "none")), plugin: "flannel", allowed: true},
		{name: "never up", plugin: "none"},
		{name: "not recorded", up: unrecorded, plugin: "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := fixture.WithPlugin(t, in, tt.plugin)
			in.AllowPluginChange, in.BeenUp = tt.allowed, tt.up != nil
			_, early := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo", Up: tt.up}, foundAll(in), Wish{AllowPluginChange: tt.allowed})
			observed := observedAs(t, in)
			for name, h := range observed.Hosts {
				h.Facts = stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true, EtcdData: true, ClusterUID: in.UID}
				observed.Hosts[name] = h
			}
			late := Refuse(in, Before{Up: tt.up}, observed).err()
			for when, err := range map[string]error{"early": early, "late": late} {
				if (err != nil) != (tt.refused != nil) {
					t.Errorf("%s: %v, want %q", when, err, tt.refused)
				}
				for _, part := range tt.refused {
					if err != nil && !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %v, want %q in it", when, err, part)
					}
				}
			}
		})
	}
}

// What is allowed is one change of one field.
func TestAllowedPluginAllowsNoOtherNetwork(t *testing.T) {
	in := fixture.Input(t)
	other := fixture.Reparsed(t, in, "provider: {local: {}}", "provider: {local: {}}\n  network: {plugin: none, podSubnet: 10.50.0.0/16}")
	_, err := Preflights(other.Cluster, Identity{UID: in.UID, Name: "demo", Up: upOf(in)}, foundAll(in), Wish{AllowPluginChange: true})
	if err == nil || !strings.Contains(err.Error(), "podSubnet") || strings.Contains(err.Error(), "plugin") {
		t.Errorf("refused: %v", err)
	}
}

// A plan says plainly what another plugin means, and nothing of it where a node only joins.
func TestDisruptionsOfAnotherPlugin(t *testing.T) {
	in := fixture.Input(t)
	none := fixture.WithPlugin(t, in, "none")
	const hosts = " on demo-cp-1, demo-cp-2, demo-cp-3, demo-worker-1, one at a time: "
	joins := observedAs(t, in)
	delete(joins.Hosts, "demo-worker-1")
	joins.Hosts["demo-worker-1"] = stack.HostState{}
	for _, tt := range []struct {
		name     string
		in       stack.Input
		observed stack.State
		was      string
		want     string
	}{
		{"flannel goes", none, observedAs(t, in), "flannel", "flanneld stops permanently" + hosts + "pods lose their network on every node until another plugin runs"},
		{"flannel comes", in, observedAs(t, none), "none", "flanneld starts" + hosts + "it runs next to the plugin that you have installed, and " + twoNetworks},
		{"a node joins", in, joins, "", ""},
	} {
		up := upOf(fixture.WithPlugin(t, in, "flannel"))
		up.Plugin = tt.was
		s := Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, tt.in), tt.observed), PluginWas: up.PluginBefore(tt.in.Cluster)}
		if s.PluginWas != tt.was {
			t.Errorf("%s: the plugin was %q, want %q", tt.name, s.PluginWas, tt.was)
		}
		var got []string
		for _, d := range Disruptions(s, Schedule(s)) {
			if strings.Contains(d.String(), "flanneld") {
				got = append(got, d.String())
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s:\n%s\nwant:\n%s", tt.name, strings.Join(got, "\n"), tt.want)
		}
	}
}
