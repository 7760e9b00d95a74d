package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// Preflight is the decision about machines before the hosts are observed.
type Preflight struct {
	// Changes are the machines to create or start.
	Changes []MachineChange
	// Gone are control planes of a cluster that has been up that have no machine and get none,
	// because the disk is gone, too (an empty etcd member under a known name could vote on entries
	// that it has lost).
	Gone []spec.Machine
	// LeftOut are control planes of a cluster that has been up that have no machine and get none
	// now, because --only excludes them.
	LeftOut []spec.Machine
}

// GoneNames returns the names of the nodes that are gone.
func (p Preflight) GoneNames() []string { return names(p.Gone, machineName) }

// Wish is what a run wants of machines. Only restricts it to some of them; empty is all.
// RebuildEmpty allows a cluster whose data is gone to start again without it, and AllowPluginChange
// allows its network plugin to change.
type Wish struct {
	Only                            []string
	RebuildEmpty, AllowPluginChange bool
}

// Preflights decides, before anything is created or changed, which machines are created and
// started, and refuses what cannot succeed. It is a pure function of the spec, the recorded state
// and the machines that the provider found.
func Preflights(c *spec.Cluster, id Identity, found *spec.Infrastructure, wish Wish) (Preflight, error) {
	reasons := refuseForeign(id, found)
	if wish.RebuildEmpty {
		reasons = append(reasons, refuseRebuild(c, id, found)...)
	} else if id.Up != nil {
		reasons = append(reasons, id.Up.refuse(c, found, wish.AllowPluginChange)...)
	}
	have := map[string]bool{}
	for _, m := range found.Machines {
		have[m.Name] = true
	}
	for name := range found.Failed { // it exists, and cannot be used
		have[name] = true
	}
	var p Preflight
	for _, n := range c.Nodes() {
		if have[n.Name] {
			continue
		}
		if reason := p.missing(n, id.Up, found, wish); reason != "" {
			reasons = append(reasons, reason)
		}
	}
	for _, m := range found.Machines {
		if state := found.States[m.Name]; state != spec.MachineRunning && wish.wants(m.Name) {
			p.Changes = append(p.Changes, MachineChange{Name: m.Name, Action: Update, Reason: "is " + state + ", and has to be started"})
		}
	}
	return p, Refusal(nothingChanged, reasons)
}

// wants reports whether --only includes a node.
func (w Wish) wants(name string) bool { return len(w.Only) == 0 || slices.Contains(w.Only, name) }

// missing decides about a node without a machine, in a cluster with the record up (nil: it has
// never been up). The reason says why the node cannot get one; "" if it can.
func (p *Preflight) missing(n spec.Node, up *Up, found *spec.Infrastructure, wish Wish) (reason string) {
	disk, controlPlane := found.Disks[n.Name], n.Role == spec.ControlPlane
	lives := up != nil && !wish.RebuildEmpty // its control planes are etcd members
	switch {
	case lives && controlPlane && disk == "" && (up.few(found) || up.has(n.Name)):
		p.Gone = append(p.Gone, up.machine(n))
	case lives && controlPlane && !wish.wants(n.Name):
		p.LeftOut = append(p.LeftOut, up.machine(n))
	case controlPlane && !wish.wants(n.Name):
		return n.Name + ": this control plane has no machine yet, and those of a new cluster come up together: name it in --only, too"
	case !wish.wants(n.Name):
	case disk != "":
		p.Changes = append(p.Changes, MachineChange{Name: n.Name, Action: Create, Reason: "does not exist; its disk does (" + disk + "), and it gets it back"})
	default:
		p.Changes = append(p.Changes, MachineChange{Name: n.Name, Action: Create, Reason: "does not exist"})
	}
	return ""
}

// machine is the machine of a control plane that has none, as the others know it.
func (u *Up) machine(n spec.Node) spec.Machine {
	return spec.Machine{Name: n.Name, Pool: n.Pool, Role: n.Role, Address: u.ControlPlanes[n.Name].Address}
}

// refuseRebuild returns the reasons why a cluster cannot start again without its data.
func refuseRebuild(c *spec.Cluster, id Identity, found *spec.Infrastructure) []string {
	if id.Up == nil {
		if len(found.Machines)+len(found.Disks) == 0 { // otherwise hosts may
			return []string{"--rebuild-empty: the state does not know that the cluster has ever been up; apply without it"}
		}
		return nil
	}
	var reasons []string
	for _, name := range id.Up.left(found) {
		if !slices.ContainsFunc(c.Nodes(), func(n spec.Node) bool { return n.Name == name }) {
			reasons = append(reasons, "--rebuild-empty: "+name+" is a control plane of the cluster that the spec does not have, and it may have etcd's data: "+
				"put it back into the spec")
		}
	}
	return reasons
}

// has reports whether a control plane had a healthy etcd member.
func (u *Up) has(name string) bool { return u != nil && u.ControlPlanes[name].Joined }

// GoneReason says why a control plane that is gone is held.
const GoneReason = "its machine is gone, and so is its disk with an etcd member: an empty member could vote on entries that it has " +
	"lost, and replacing a member is not available yet. The others continue without it. Restore its disk if you can"

// refuseForeign names the resources that carry the cluster's name and belong to another cluster.
func refuseForeign(id Identity, found *spec.Infrastructure) []string {
	if len(found.Foreign) == 0 {
		return nil
	}
	var lines, remove []string
	uids := map[string]bool{}
	for _, f := range found.Foreign {
		whose := "of an older slipway, with other keys"
		if f.UID != "" {
			whose, uids[f.UID] = "of cluster UID "+f.UID, true
		}
		if f.UID == id.UID { // so far only the spec has it
			whose += ", as metadata.uid says, and no machine has the SSH keys next to the state"
		}
		lines = append(lines, fmt.Sprintf("%s %s (%s)", f.Kind, f.Name, whose))
		remove = append(remove, f.Remove)
	}
	remedy := "If they are this cluster's, its state is in another place: set SLIPWAY_STATE_DIR or spec.state to it"
	if uid := slices.Collect(maps.Keys(uids)); id.Older && len(uid) == 1 && uid[0] != id.UID {
		remedy += ". If it is lost, and this one is a copy from before clusters had UIDs, write `uid: " + uid[0] + "` into the metadata of the spec"
	}
	return []string{fmt.Sprintf("these have the name of cluster %s and do not belong to it (its UID is %s): %s. %s. "+
		"If they are another cluster's, choose another metadata.name. Only if neither they nor their data are needed any more, remove them: %s",
		id.Name, id.UID, strings.Join(lines, ", "), remedy, strings.Join(remove, "; "))}
}

// refuse returns the reasons why a cluster that has been up cannot take this spec and these
// machines.
func (u *Up) refuse(c *spec.Cluster, found *spec.Infrastructure, allowPlugin bool) []string {
	reasons := u.moved(c, allowPlugin)
	wanted := map[string]bool{}
	for _, n := range c.Nodes() {
		if n.Role != spec.ControlPlane {
			continue
		}
		wanted[n.Name] = true
		if _, member := u.ControlPlanes[n.Name]; !member {
			reasons = append(reasons, n.Name+": the cluster has been up without this control plane, and adding control planes is not available yet: "+
				"remove it from the spec again")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.ControlPlanes)) {
		if !wanted[name] {
			reasons = append(reasons, name+": this control plane is an etcd member and no longer in the spec, and removing control planes is not "+
				"available yet: put it back")
		}
	}
	if len(u.left(found)) == 0 {
		reasons = append(reasons, u.empty(c.Metadata.Name, "no machine and no disk of a control plane is left"))
	}
	return reasons
}

// left returns the control planes that have a machine or a disk, whether or not they are in the
// spec.
func (u *Up) left(found *spec.Infrastructure) []string {
	var left []string
	for _, name := range slices.Sorted(maps.Keys(u.ControlPlanes)) {
		known := func(m spec.Machine) bool { return m.Name == name }
		if found.Disks[name] != "" || slices.ContainsFunc(found.Machines, known) || slices.ContainsFunc(found.Surplus, known) {
			left = append(left, name)
		}
	}
	return left
}

// few reports whether fewer control planes are left than etcd needs. Most had data when the API
// answered, so one that has none has lost it, even if it is not known to have joined.
func (u *Up) few(found *spec.Infrastructure) bool {
	return len(u.left(found)) < len(u.ControlPlanes)/2+1
}

// empty is the reason not to treat a cluster that has been up as a new one.
func (u *Up) empty(cluster, why string) string {
	was := "the cluster has been up"
	if !u.Since.IsZero() {
		was += " since " + u.Since.Format("2006-01-02 15:04 MST")
	}
	if u.EtcdCluster != "" {
		was += " (etcd cluster " + u.EtcdCluster + ")"
	}
	return was + ", and " + why + ": its data is gone from here. Restore the disks. Only if the data may be lost permanently, " +
		"`slipway apply --rebuild-empty " + cluster + "` creates an empty cluster in its place"
}
