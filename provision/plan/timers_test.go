package plan

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

const metricsDir = "/var/lib/prometheus/node exporter"

func TestExpiryMetricsTimer(t *testing.T) {
	in := fixture.Input(t)
	without := fixture.Desired(t, in)
	in.Cluster.Spec.PKI.ExpiryMetrics.Directory = metricsDir
	with := fixture.Desired(t, in)
	asked, err := stack.Query(in)
	if err != nil {
		t.Fatal(err)
	}
	const timer, service = "slipway-certificates.timer", "slipway-certificates.service"
	var text strings.Builder
	for _, name := range []string{"demo-cp-1", "demo-worker-1"} {
		want := with.Hosts[name]
		if got, expected := slices.Sorted(maps.Keys(asked.Hosts[name].Files)), slices.Sorted(maps.Keys(want.Files)); !slices.Equal(got, expected) {
			t.Errorf("%s: asked about %v, wanted are %v", name, got, expected)
		}
		if u := want.Units[timer]; !u.Enabled || !u.Active || u.Inputs != "" {
			t.Errorf("%s: the timer should be %+v", name, u)
		}
		if _, there := want.Units[service]; there {
			t.Errorf("%s: the service of a timer is not active in between", name)
		}
		for _, unit := range []string{service, timer} {
			text.WriteString("== " + name + " " + unit + "\n" + string(want.Files[stack.UnitDir+unit].Content))
		}
	}
	fixture.Golden(t, "timers.golden", text.String())

	// On, off, and nothing in between. What is observed of a timer has no inputs.
	none := stack.State{Hosts: map[string]stack.HostState{}}
	owned := func(s stack.State) stack.State {
		for name, h := range s.Hosts {
			h.Owned = map[string]string{}
			for p, f := range h.Files {
				h.Owned[p] = f.Digest
			}
			s.Hosts[name] = h
		}
		return s
	}
	with, without = owned(with), owned(without)
	about := func(desired, observed stack.State) string {
		var all []string
		for _, c := range Diff(desired, observed) {
			if c.Host == "demo-worker-1" && c.Kind == UnitChange && strings.Contains(c.Name, "certificates") {
				all = append(all, string(c.Action)+" "+c.Name)
			}
		}
		return strings.Join(all, ", ")
	}
	for _, tt := range []struct {
		what              string
		desired, observed stack.State
		want              string
	}{
		{"first", with, none, "+ " + timer},
		{"turned on", with, without, "+ " + timer},
		{"as it is", with, with, ""},
		{"turned off", without, with, "- " + timer},
	} {
		if got := about(tt.desired, tt.observed); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}
