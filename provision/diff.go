package provision

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// Action says what a change does, in the way terraform prints it.
type Action rune

// The actions. Restart is a unit that runs, but not with what it should.
const (
	Create  Action = '+'
	Update  Action = '~'
	Delete  Action = '-'
	Restart Action = '^'
)

// Kind is what a change is of.
type Kind string

// The kinds of changes.
const (
	FileChange   Kind = "file"
	UnitChange   Kind = "unit"
	SysctlChange Kind = "sysctl"
)

// Change is one difference between desired and observed state of a host: pure data.
type Change struct {
	Host   string
	Kind   Kind
	Name   string // the path, unit or sysctl
	Action Action
	Reason string
}

func (c Change) String() string {
	return fmt.Sprintf("%s: %c %s %s (%s)", c.Host, c.Action, c.Kind, c.Name, c.Reason)
}

// Diff gives what has to change for observed to become desired, sorted by host, kind and name.
// Facts are not compared. Files that slipway once wrote and no longer wants are deleted; others are left alone.
func Diff(desired, observed State) []Change {
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(desired.Hosts)) {
		want, have := desired.Hosts[name], observed.Hosts[name]
		d := hostDiff{host: name}
		d.files(want.Files, have.Files)
		d.units(want, have)
		d.sysctls(want.Sysctls, have.Sysctls)
		changes = append(changes, d.changes...)
	}
	return changes
}

type hostDiff struct {
	host    string
	changes []Change
}

func (d *hostDiff) add(kind Kind, name string, action Action, reason string) {
	d.changes = append(d.changes, Change{Host: d.host, Kind: kind, Name: name, Action: action, Reason: reason})
}

func (d *hostDiff) files(want, have map[string]File) {
	for _, p := range slices.Sorted(maps.Keys(want)) {
		w := want[p]
		h, ok := have[p]
		switch {
		case !ok:
			d.add(FileChange, p, Create, "missing")
		case h.Mode.Type() != w.Mode.Type():
			d.add(FileChange, p, Update, "is not the right type of file")
		case h.Digest != w.Digest:
			d.add(FileChange, p, Update, "content differs")
		case h.Mode.Perm() != w.Mode.Perm():
			d.add(FileChange, p, Update, fmt.Sprintf("mode is %04o, should be %04o", h.Mode.Perm(), w.Mode.Perm()))
		case h.Owner != w.Owner:
			d.add(FileChange, p, Update, fmt.Sprintf("owner is %s, should be %s", h.Owner, w.Owner))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[p]; !ok && have[p].Owned {
			d.add(FileChange, p, Delete, "no longer wanted")
		}
	}
}

func (d *hostDiff) units(want, have HostState) {
	for _, name := range slices.Sorted(maps.Keys(want.Units)) {
		w := want.Units[name]
		h, ok := have.Units[name]
		switch {
		case !ok:
			d.add(UnitChange, name, Create, "missing")
		case !h.Active:
			d.add(UnitChange, name, Update, "is "+h.State)
		case h.Inputs != w.Inputs:
			d.add(UnitChange, name, Restart, "runs with other inputs")
		case !h.Enabled:
			d.add(UnitChange, name, Update, "is not enabled")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Units)) {
		_, wanted := want.Units[name]
		if !wanted && have.Files[unitDir+name].Owned {
			d.add(UnitChange, name, Delete, "no longer wanted")
		}
	}
}

// sysctls compares only what the host knows: a key that it lacks belongs to a module that it has no need of.
func (d *hostDiff) sysctls(want, have map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if h, ok := have[key]; ok && h != want[key] {
			d.add(SysctlChange, key, Update, fmt.Sprintf("is %s, should be %s", h, want[key]))
		}
	}
}

// Refuse gives the reasons why a difference must not be carried out, joined in one error; nil is permission.
// It is a pure function of what was asked and what was seen.
func Refuse(in Input, observed State) error {
	var reasons []string
	initialized := false
	for _, h := range observed.Hosts {
		initialized = initialized || h.Facts.Initialized
	}
	for _, m := range in.Machines {
		f := observed.Hosts[m.Name].Facts
		if !f.Systemd {
			reasons = append(reasons, m.Name+": systemd does not run there, and slipway's components are its units")
		}
		if f.Arch != "amd64" {
			reasons = append(reasons, fmt.Sprintf("%s: the machine is %s, the bundle is amd64", m.Name, f.Arch))
		}
		if !f.CgroupV2 && !*in.Cluster.Spec.AllowCgroupV1 {
			reasons = append(reasons, m.Name+": the host uses cgroup v1, which Kubernetes has deprecated (KEP-4569); "+
				"boot it with systemd.unified_cgroup_hierarchy=1, or set spec.allowCgroupV1: true")
		}
		if m.Role == spec.ControlPlane && initialized && !f.EtcdData {
			reasons = append(reasons, m.Name+": the cluster has been up, but this control plane has no etcd data; starting "+
				"it with an empty store could lose what the cluster knows. Put /var/lib/etcd back, or destroy the cluster and begin anew")
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	sort.Strings(reasons)
	return fmt.Errorf("nothing was changed, since:\n  %s", strings.Join(reasons, "\n  "))
}
