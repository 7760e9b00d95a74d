package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// withPlugin is in with a network plugin that its spec names.
func withPlugin(t *testing.T, in Input, plugin string) Input {
	t.Helper()
	if plugin == "flannel" {
		return in
	}
	return reparsed(t, in, "provider: {local: {}}", "provider: {local: {}}\n  network: {plugin: "+plugin+"}")
}

// A cluster that has been up gets another network plugin only where that is allowed: before anything is made or touched, and
// again once the hosts were seen.
func TestAnotherPluginIsRefused(t *testing.T) {
	in := input(t)
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
			name: "flannel comes", up: upOf(withPlugin(t, in, "none")), plugin: "flannel",
			refused: []string{"spec.network.plugin was none and is flannel", "beside the plugin that you have installed", "apply --allow-plugin-change`"},
		},
		{name: "flannel goes, and may", up: upOf(in), plugin: "none", allowed: true},
		{name: "flannel comes, and may", up: upOf(withPlugin(t, in, "none")), plugin: "flannel", allowed: true},
		{name: "never up", plugin: "none"},
		{name: "not recorded", up: unrecorded, plugin: "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := withPlugin(t, in, tt.plugin)
			in.AllowPluginChange, in.BeenUp = tt.allowed, tt.up != nil
			_, early := Preflights(in.Cluster, Identity{UID: in.UID, Name: "demo", Up: tt.up}, foundAll(in), Wish{AllowPluginChange: tt.allowed})
			observed := observedAs(t, in)
			for name, h := range observed.Hosts {
				h.Facts = Facts{Systemd: true, Arch: "amd64", CgroupV2: true, EtcdData: true, ClusterUID: in.UID}
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
	in := input(t)
	other := reparsed(t, in, "provider: {local: {}}", "provider: {local: {}}\n  network: {plugin: none, podSubnet: 10.50.0.0/16}")
	_, err := Preflights(other.Cluster, Identity{UID: in.UID, Name: "demo", Up: upOf(in)}, foundAll(in), Wish{AllowPluginChange: true})
	if err == nil || !strings.Contains(err.Error(), "podSubnet") || strings.Contains(err.Error(), "plugin") {
		t.Errorf("refused: %v", err)
	}
}

// A situation knows which plugin another one replaces: what it disturbs follows from that.
func TestSituationKnowsThePluginBefore(t *testing.T) {
	in := input(t)
	for _, was := range []string{"none", "flannel"} {
		hosts := map[string]host.Host{}
		for _, m := range in.Machines {
			report := fmt.Sprintf("[facts]\nmachine=x86_64\ncgroup=cgroup2fs\nsystemd=1\nnow=%d\n[end]\n", time.Now().Unix())
			hosts[m.Name] = told{hosttest.NewMemory(m.Name), report}
		}
		s, err := (&Runner{Input: in, Before: Before{Up: upOf(withPlugin(t, in, was))}}).Situation(t.Context(), hosts)
		if want := map[string]string{"none": "none"}[was]; err != nil || s.PluginWas != want {
			t.Errorf("%s: %v, and the plugin before is %q, want %q", was, err, s.PluginWas, want)
		}
	}
}

// The plugin is recorded when a cluster comes up, or when an older slipway has not, and another only once all nodes have it.
func TestPluginIsRecorded(t *testing.T) {
	in := input(t)
	none := withPlugin(t, in, "none")
	unrecorded := upOf(in)
	unrecorded.Plugin = ""
	if text, err := json.Marshal(unrecorded); err != nil || strings.Contains(string(text), "plugin") {
		t.Errorf("%s, %v: an older slipway's record is another one", text, err)
	}
	for name, tt := range map[string]struct {
		up         *Up
		in         Input
		want, ends string
	}{
		"comes up":     {nil, none, "none", "none"},
		"not recorded": {unrecorded, in, "flannel", "flannel"},
		"recorded":     {upOf(in), in, "flannel", "flannel"},
		"another":      {upOf(in), none, "flannel", "none"},
	} {
		up := tt.up
		r := Runner{Input: tt.in, Record: func(_ context.Context, change func(*Up) *Up) error {
			now := change(up)
			if up != nil && up.Plugin != now.Plugin && up.Equal(now) {
				t.Errorf("%s: a record with another plugin counts as the same", name)
			}
			up = now
			return nil
		}}
		if err := r.RecordLiving(t.Context()); err != nil || up.Plugin != tt.want {
			t.Errorf("%s: recorded is %q, %v, want %q", name, up.Plugin, err, tt.want)
		}
		since := up.Since
		if err := r.RecordPlugin(t.Context()); err != nil || up.Plugin != tt.ends || up.Since != since || since.IsZero() {
			t.Errorf("%s: at the end recorded is %+v, %v, want %q", name, up, err, tt.ends)
		}
	}
	r := Runner{Input: in, Record: func(_ context.Context, change func(*Up) *Up) error {
		if up := change(nil); up != nil {
			t.Errorf("a cluster that is not known to be up is: %+v", up)
		}
		return nil
	}}
	if err := r.RecordPlugin(t.Context()); err != nil {
		t.Error(err)
	}
	applied, err := NewApplied(none, "v1")
	if err != nil || applied.Up().Plugin != "none" {
		t.Errorf("of an older slipway's record: %v, %v", applied.Up(), err)
	}
}

// A plan says plainly what another plugin means, and nothing of it where a node only joins.
func TestDisruptionsOfAnotherPlugin(t *testing.T) {
	in := input(t)
	none := withPlugin(t, in, "none")
	const hosts = " on demo-cp-1, demo-cp-2, demo-cp-3, demo-worker-1, one at a time: "
	joins := observedAs(t, in)
	delete(joins.Hosts, "demo-worker-1")
	joins.Hosts["demo-worker-1"] = HostState{}
	for _, tt := range []struct {
		name     string
		in       Input
		observed State
		was      string
		want     string
	}{
		{"flannel goes", none, observedAs(t, in), "flannel", "flanneld stops for good" + hosts + "pods lose their network on every node until another plugin runs"},
		{"flannel comes", in, observedAs(t, none), "none", "flanneld starts" + hosts + "it runs beside the plugin that you have installed, and " + twoNetworks},
		{"a node joins", in, joins, "", ""},
	} {
		up := upOf(withPlugin(t, in, "flannel"))
		up.Plugin = tt.was
		s := Situation{Machines: in.Machines, Alive: true, Changes: Diff(desired(t, tt.in), tt.observed), PluginWas: up.pluginBefore(tt.in.Cluster)}
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
