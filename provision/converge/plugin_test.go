package converge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// allJoined is the record of a cluster whose members of etcd have all been healthy.
func allJoined(in stack.Input) *plan.Up {
	members := map[string]bool{}
	for _, m := range in.ControlPlanes() {
		members[m.Name] = true
	}
	return (*plan.Up)(nil).Joined(in, time.Unix(1, 0), "cafe", members)
}

// A situation knows which plugin another one replaces: what it disturbs follows from that.
func TestSituationKnowsThePluginBefore(t *testing.T) {
	in := fixture.Input(t)
	for _, was := range []string{"none", "flannel"} {
		hosts := map[string]host.Host{}
		for _, m := range in.Machines {
			report := fmt.Sprintf("[facts]\nmachine=x86_64\ncgroup=cgroup2fs\nsystemd=1\nnow=%d\n[end]\n", time.Now().Unix())
			hosts[m.Name] = told{hosttest.NewMemory(m.Name), report}
		}
		v, err := Observer{Input: in, Before: plan.Before{Up: allJoined(fixture.WithPlugin(t, in, was))}}.Look(t.Context(), hosts)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"none": "none"}[was]; v.Situation.PluginWas != want {
			t.Errorf("%s: the plugin before is %q, want %q", was, v.Situation.PluginWas, want)
		}
	}
}

// The plugin is recorded when a cluster comes up, or when an older slipway has not, and another only once all nodes have it.
func TestPluginIsRecorded(t *testing.T) {
	in := fixture.Input(t)
	none := fixture.WithPlugin(t, in, "none")
	unrecorded := allJoined(in)
	unrecorded.Plugin = ""
	if text, err := json.Marshal(unrecorded); err != nil || strings.Contains(string(text), "plugin") {
		t.Errorf("%s, %v: an older slipway's record is another one", text, err)
	}
	for name, tt := range map[string]struct {
		up         *plan.Up
		in         stack.Input
		want, ends string
	}{
		"comes up":     {nil, none, "none", "none"},
		"not recorded": {unrecorded, in, "flannel", "flannel"},
		"recorded":     {allJoined(in), in, "flannel", "flannel"},
		"another":      {allJoined(in), none, "flannel", "none"},
	} {
		up := tt.up
		v, record := View{Input: tt.in}, func(_ context.Context, change func(*plan.Up) *plan.Up) error {
			now := change(up)
			if up != nil && up.Plugin != now.Plugin && up.Equal(now) {
				t.Errorf("%s: a record with another plugin counts as the same", name)
			}
			up = now
			return nil
		}
		if err := v.RecordLiving(t.Context(), record); err != nil || up.Plugin != tt.want {
			t.Errorf("%s: recorded is %q, %v, want %q", name, up.Plugin, err, tt.want)
		}
		since := up.Since
		if err := v.RecordPlugin(t.Context(), record); err != nil || up.Plugin != tt.ends || up.Since != since || since.IsZero() {
			t.Errorf("%s: at the end recorded is %+v, %v, want %q", name, up, err, tt.ends)
		}
	}
	v, record := View{Input: in}, func(_ context.Context, change func(*plan.Up) *plan.Up) error {
		if up := change(nil); up != nil {
			t.Errorf("a cluster that is not known to be up is: %+v", up)
		}
		return nil
	}
	if err := v.RecordPlugin(t.Context(), record); err != nil {
		t.Error(err)
	}
	applied, err := plan.NewApplied(none, "v1")
	if err != nil || applied.Up().Plugin != "none" {
		t.Errorf("of an older slipway's record: %v, %v", applied.Up(), err)
	}
}

// A state restored from before a rebuild, of a cluster that is down: nothing records it as living before the plugin is recorded.
func TestRecordPluginKeepsThatItWasUp(t *testing.T) {
	in := fixture.Input(t)
	id := plan.Identity{UID: in.UID, Name: "demo", Up: allJoined(in)}
	in.Generation = fixture.FirstBegun // as adopt has it
	v, record := View{Input: in}, func(_ context.Context, change func(*plan.Up) *plan.Up) error {
		id = id.Recorded(in.Generation, change)
		return nil
	}
	if err := v.RecordPlugin(t.Context(), record); err != nil || id.Up == nil {
		t.Errorf("the state has forgotten that the cluster has been up: %+v, %v", id, err)
	}
}
