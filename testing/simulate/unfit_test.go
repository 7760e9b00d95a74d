package simulate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/state"
)

// inspector finds errors on some hosts, and remembers what it was asked.
type inspector struct {
	unfit  []string
	unread map[string]error
	asked  []preflight.Input
}

func (i *inspector) inspect(_ context.Context, in preflight.Input, hosts map[string]host.Host) (preflight.Report, error) {
	i.asked = append(i.asked, in)
	r := preflight.Report{Unread: i.unread}
	for _, name := range in.Judged {
		if slices.Contains(i.unfit, name) && hosts[name] != nil && !slices.Contains(in.Ignore, "kmsg") {
			r.Findings = append(r.Findings, preflight.Finding{Host: name, Check: "kmsg", Severity: preflight.Error, Found: "it is missing", Remedy: "mknod"},
				preflight.Finding{Host: name, Check: "swap", Severity: preflight.Warning, Found: "it is on"})
		}
	}
	return r, nil
}

// An unfit machine is held, and the others continue; later runs ask only about machines that are new,
// and --ignore lets them through.
func TestUnfitMachinesAreHeld(t *testing.T) {
	s := shape(t, 3, 2)
	onCluster(t, s, func(t *testing.T, c *Cluster, memory *state.Memory) {
		run := func(i *inspector, ignore ...string) error {
			r := NewRun(c, len(c.trace.Lines), memory, s.Variants[0])
			r.Inspect, r.Ignore = i.inspect, ignore
			return r.Apply(t.Context())
		}
		first := &inspector{unfit: []string{"sim-cp-2"}}
		err := run(first)
		if err == nil || !strings.Contains(err.Error(), "sim-cp-2: preflight: kmsg: it is missing; run there: mknod (or --ignore kmsg)") ||
			!strings.Contains(err.Error(), plan.HostsUnchanged) {
			t.Errorf("a cluster begins with all of its control planes, or not at all: %v", err)
		}
		for name, h := range c.hosts {
			if len(h.files) > 0 && h.files["/var/lib/slipway/owned"] != nil {
				t.Errorf("%s was changed", name)
			}
		}
		if len(first.asked) != 1 || len(first.asked[0].Judged) != 5 || len(first.asked[0].Machines) != 5 {
			t.Errorf("want one preflight of five new machines: %+v", first.asked)
		}

		second := &inspector{unfit: []string{"sim-worker-1"}, unread: map[string]error{"sim-worker-2": errors.New("it hung")}}
		var held *plan.HeldError
		if err := run(second); !errors.As(err, &held) || len(held.Held) != 2 || !strings.Contains(held.Held["sim-worker-2"][0], "could not be inspected: it hung") {
			t.Errorf("want both workers held, and nothing else: %v", err)
		}
		if c.hosts["sim-worker-1"].files["/var/lib/slipway/owned"] != nil || c.hosts["sim-cp-1"].files["/var/lib/slipway/owned"] == nil {
			t.Error("want the control planes installed, and no worker")
		}
		if len(second.asked) != 1 {
			t.Errorf("want one preflight in a run: %+v", second.asked)
		}

		third := &inspector{unfit: []string{"sim-cp-1", "sim-worker-1"}}
		if err := run(third, "kmsg"); err != nil {
			t.Errorf("with --ignore: %v", err)
		}
		if len(third.asked) != 1 || !slices.Equal(third.asked[0].Judged, []string{"sim-worker-1", "sim-worker-2"}) {
			t.Errorf("want a preflight of the new machines alone: %+v", third.asked)
		}
		fourth := &inspector{unfit: []string{"sim-cp-1", "sim-worker-1"}}
		if err := run(fourth); err != nil || len(fourth.asked) > 0 {
			t.Errorf("without a new machine nothing is asked: %v, %+v", err, fourth.asked)
		}
	})
}
