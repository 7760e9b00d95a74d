package provision

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
)

// A cluster begins again without its data only where no control plane that it had has any left: one that the spec no longer
// has, or has under another name, has all of it.
func TestRebuildEmptyLooksAtControlPlanesThatLeftTheSpec(t *testing.T) {
	in := input(t)
	one := reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: cp, role: control-plane, replicas: 1}").Cluster
	renamed := reparsed(t, in, "{name: cp, role: control-plane, replicas: 3}", "{name: main, role: control-plane, replicas: 3}").Cluster
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
