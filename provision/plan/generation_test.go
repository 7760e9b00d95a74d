package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

const (
	thenBegun = "8a9d1b7c-2e36-4f0b-8a55-6c1d2e3f4a02"
)

// Where the cluster begins again without its data only data of this very beginning is passed over. What comes back of
// before stops it, whatever an earlier run has begun; and without the flag it is what was begun that is left alone.
func TestGenerations(t *testing.T) {
	in := fixture.Input(t)
	in.BeenUp = true
	old, fresh := stack.Facts{EtcdData: true, Initialized: true, ClusterUID: in.UID}, stack.Facts{EtcdData: true, ClusterUID: in.UID, Generation: fixture.FirstBegun}
	cut := stack.Facts{EtcdDamaged: true, ClusterUID: in.UID, Generation: fixture.FirstBegun}
	for name, tt := range map[string]struct {
		rebuild                bool
		generation, rebuilding string
		facts                  [3]stack.Facts
		refused                string // of the cluster; empty: it goes on
		held                   []string
	}{
		"nothing is left": {rebuild: true, generation: fixture.FirstBegun},
		"some is left":    {rebuild: true, generation: fixture.FirstBegun, facts: [3]stack.Facts{old}, refused: "demo-cp-1 still has etcd data"},
		"one that was killed goes on": {
			rebuild: true, generation: fixture.FirstBegun, rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{fresh, cut, {}},
		},
		"a disk came back before it goes on": {
			rebuild: true, generation: fixture.FirstBegun, rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{fresh, {}, old}, refused: "demo-cp-3 still has etcd data",
		},
		"the flag for a cluster that works": {rebuild: true, generation: thenBegun, facts: [3]stack.Facts{fresh, fresh, fresh}, refused: "still has etcd data"},
		"the data of before came back": {
			rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{old, old, fresh}, held: []string{"demo-cp-3"},
		},
		"one that was killed, without the flag": {
			rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{fresh, fresh, fresh}, refused: "did not complete",
		},
		"a control plane was away meanwhile": {
			generation: fixture.FirstBegun, facts: [3]stack.Facts{fresh, fresh, old}, held: []string{"demo-cp-3"},
		},
		"all that is left is of before": {generation: fixture.FirstBegun, facts: [3]stack.Facts{old, old, old}, refused: "another generation of this cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			in := in
			in.RebuildEmpty, in.Generation, in.Rebuilding = tt.rebuild, tt.generation, tt.rebuilding
			observed := shows(map[string]stack.Facts{"demo-cp-1": tt.facts[0], "demo-cp-2": tt.facts[1], "demo-cp-3": tt.facts[2]})
			in.Adopt(observed)
			Forget(in, observed)
			r := Refuse(in, Before{Up: upOf(in)}, observed)
			if text := strings.Join(r.Cluster, "; "); tt.refused == "" && text != "" || !strings.Contains(text, tt.refused) {
				t.Errorf("refused: %q, want %q", text, tt.refused)
			}
			if held := slices.Sorted(maps.Keys(r.Hosts)); tt.refused == "" && !slices.Equal(held, tt.held) {
				t.Errorf("left alone: %v, want %v", r.Hosts, tt.held)
			}
		})
	}
}

// A state that was restored from before a cluster began again takes the beginning that its hosts know, and no other state does.
func TestAdoptedGeneration(t *testing.T) {
	in := fixture.Input(t)
	ours := func(generation string) stack.Facts {
		return stack.Facts{EtcdData: true, ClusterUID: in.UID, Generation: generation}
	}
	sealed := ours(fixture.FirstBegun)
	sealed.Initialized = true
	for name, tt := range map[string]struct {
		known, rebuilding string
		facts             [3]stack.Facts
		want              string
	}{
		"restored":                  {facts: [3]stack.Facts{ours(fixture.FirstBegun), ours(fixture.FirstBegun), {}}, want: fixture.FirstBegun},
		"with one of before":        {facts: [3]stack.Facts{ours(fixture.FirstBegun), ours(fixture.FirstBegun), ours("")}, want: fixture.FirstBegun},
		"two of them":               {facts: [3]stack.Facts{ours(fixture.FirstBegun), ours(thenBegun), {}}},
		"one of three":              {facts: [3]stack.Facts{ours(fixture.FirstBegun), {}, {}}},
		"begun, and has been up":    {rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{ours(fixture.FirstBegun), sealed, {}}, want: fixture.FirstBegun},
		"begun, and not at its end": {rebuilding: fixture.FirstBegun, facts: [3]stack.Facts{ours(fixture.FirstBegun), ours(fixture.FirstBegun), {}}},
		"of the one before":         {known: thenBegun, facts: [3]stack.Facts{ours(fixture.FirstBegun), ours(fixture.FirstBegun), {}}, want: thenBegun},
		"a stranger's":              {facts: [3]stack.Facts{{EtcdData: true, ClusterUID: "another", Generation: fixture.FirstBegun}, ours(""), {}}},
	} {
		t.Run(name, func(t *testing.T) {
			in := in
			in.Generation, in.Rebuilding = tt.known, tt.rebuilding
			adopted := in.Adopt(shows(map[string]stack.Facts{"demo-cp-1": tt.facts[0], "demo-cp-2": tt.facts[1], "demo-cp-3": tt.facts[2]}))
			if in.Generation != tt.want || adopted != (tt.want != tt.known) {
				t.Errorf("generation %q, want %q; adopted %t", in.Generation, tt.want, adopted)
			}
		})
	}
}

// What a cluster that begins again shares with the one of before: no etcd that takes the other's messages, and no process that
// goes on with what it knew. Going on with it changes nothing any more.
func TestGenerationChangesEtcdAndRestartsAll(t *testing.T) {
	in := fixture.Input(t)
	before := fixture.Desired(t, in)
	in.Generation = fixture.FirstBegun
	after := fixture.Desired(t, in)
	for name, h := range after.Hosts {
		for unit, u := range h.Units {
			if u.Inputs == "" {
				continue // it is not restarted for anything
			}
			if u.Inputs == before.Hosts[name].Units[unit].Inputs {
				t.Errorf("%s: %s goes on", name, unit)
			}
		}
		if text := string(h.Files[stack.ClusterFile].Content); text != in.UID+" "+fixture.FirstBegun+"\n" {
			t.Errorf("%s: %s has %q", name, stack.ClusterFile, text)
		}
	}
	unit := string(after.Hosts["demo-cp-1"].Files[stack.UnitDir+stack.EtcdService].Content)
	if !strings.Contains(unit, "--initial-cluster-token=demo-"+fixture.FirstBegun) {
		t.Errorf("etcd's token is the one of before:\n%s", unit)
	}
}

// What the state knows of the cluster of before stays until the new one is up, and then is over.
func TestRecordedGeneration(t *testing.T) {
	in := fixture.Input(t)
	id := Identity{UID: in.UID, Name: "demo", Up: upOf(in), Rebuilding: fixture.FirstBegun}
	change := func(was *Up) *Up {
		if was != nil {
			t.Error("what was known of before goes on")
		}
		return newUp(in.Cluster)
	}
	got := id.Recorded(fixture.FirstBegun, change)
	if got.Generation != fixture.FirstBegun || got.Rebuilding != "" || len(got.Up.ControlPlanes) > 0 {
		t.Errorf("recorded %+v", got)
	}
	again := got.Recorded(fixture.FirstBegun, func(was *Up) *Up { return was })
	if !again.Equal(got) {
		t.Errorf("then %+v", again)
	}
	if back := id.Recorded("", func(was *Up) *Up { return was }); !back.Up.Equal(id.Up) || back.Rebuilding != "" || back.Generation != "" {
		t.Errorf("the cluster of before lives, and is recorded as %+v", back)
	}
}
