package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// Preflight is what becomes of machines before anything is known of the hosts.
type Preflight struct {
	// Changes are the machines that have to be made or started.
	Changes []MachineChange
	// Gone are control planes of a cluster that has been up that have no machine and get none, since the disk is gone, too
	// (an empty member of etcd under a name that it knows could vote on what it has forgotten).
	Gone []spec.Machine
	// LeftOut are control planes of a cluster that has been up that have no machine and get none now, since --only leaves them
	// out.
	LeftOut []spec.Machine
}

// GoneNames are the names of those that are gone.
func (p Preflight) GoneNames() []string { return names(p.Gone, machineName) }

// Wish is what a run wants of machines: Only some of them, or all; RebuildEmpty says that a cluster whose data is gone may
// begin again without it, AllowPluginChange that its network plugin may change.
type Wish struct {
	Only                            []string
	RebuildEmpty, AllowPluginChange bool
}

// Preflights decides, before anything is made or touched, which machines are made and started, and refuses what cannot
// come to a good end. It is a pure function of the spec, of what the state knows and of what the provider has found.
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
	for name := range found.Failed { // it is there, and nothing can be done with it
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

// wants reports whether Only does not leave a node out.
func (w Wish) wants(name string) bool { return len(w.Only) == 0 || slices.Contains(w.Only, name) }

// missing decides what becomes of a node without a machine, in a cluster of which the state has up (nil: it has never been
// up); the reason is why that cannot be, or empty.
func (p *Preflight) missing(n spec.Node, up *Up, found *spec.Infrastructure, wish Wish) (reason string) {
	disk, controlPlane := found.Disks[n.Name], n.Role == spec.ControlPlane
	lives := up != nil && !wish.RebuildEmpty // its control planes are members of etcd
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

// machine is a control plane that has none, as the others know it.
func (u *Up) machine(n spec.Node) spec.Machine {
	return spec.Machine{Name: n.Name, Pool: n.Pool, Role: n.Role, Address: u.ControlPlanes[n.Name].Address}
}

// refuseRebuild finds what keeps a cluster from beginning again without its data.
func refuseRebuild(c *spec.Cluster, id Identity, found *spec.Infrastructure) []string {
	if id.Up == nil {
		if len(found.Machines)+len(found.Disks) == 0 { // else hosts may know
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

// has says whether a control plane had a member of etcd that was healthy.
func (u *Up) has(name string) bool { return u != nil && u.ControlPlanes[name].Joined }

// GoneReason says why a control plane that is gone is left alone.
const GoneReason = "its machine is gone, and so is its disk, which had a member of etcd: with an empty one it could vote on what it has " +
	"forgotten, and replacing a member is not available yet. The others go on without it. Bring its disk back if you can"

// refuseForeign names what carries the cluster's name and belongs to another.
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
		if f.UID == id.UID { // which only the spec says
			whose += ", as metadata.uid says, and no machine has the SSH keys that are beside the state"
		}
		lines = append(lines, fmt.Sprintf("%s %s (%s)", f.Kind, f.Name, whose))
		remove = append(remove, f.Remove)
	}
	remedy := "If they are this cluster's, its state is elsewhere: set SLIPWAY_STATE_DIR or spec.state to where it is"
	if uid := slices.Collect(maps.Keys(uids)); id.Older && len(uid) == 1 && uid[0] != id.UID {
		remedy += ". If it is lost, and this one is a copy from before clusters had UIDs, write `uid: " + uid[0] + "` into the metadata of the spec"
	}
	return []string{fmt.Sprintf("these carry the name of cluster %s and do not belong to it (its UID is %s): %s. %s. If they are another's, take another "+
		"metadata.name. Only if nobody needs them and the data on them, remove them: %s",
		id.Name, id.UID, strings.Join(lines, ", "), remedy, strings.Join(remove, "; "))}
}

// refuse finds what a cluster that has been up cannot take of a spec and of machines.
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
				"take it out of the spec again")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.ControlPlanes)) {
		if !wanted[name] {
			reasons = append(reasons, name+": this control plane is a member of etcd and is not in the spec any more, and removing control planes is not "+
				"available yet: put it back")
		}
	}
	if len(u.left(found)) == 0 {
		reasons = append(reasons, u.empty(c.Metadata.Name, "no machine and no disk of a control plane is left"))
	}
	return reasons
}

// left are the control planes of which there is a machine or a disk, whether the spec has them or not.
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

// few says whether fewer control planes are left than etcd needs: most had data when the API answered, so one that has none
// has lost it, even if it is not known to have joined.
func (u *Up) few(found *spec.Infrastructure) bool {
	return len(u.left(found)) < len(u.ControlPlanes)/2+1
}

// empty refuses to take a cluster that has been up for a new one.
func (u *Up) empty(cluster, why string) string {
	was := "the cluster has been up"
	if !u.Since.IsZero() {
		was += " since " + u.Since.Format("2006-01-02 15:04 MST")
	}
	if u.EtcdCluster != "" {
		was += " (etcd cluster " + u.EtcdCluster + ")"
	}
	return was + ", and " + why + ": its data is gone from here. Bring the disks back. Only if the data may be lost for good, " +
		"`slipway apply --rebuild-empty " + cluster + "` makes an empty cluster in its place"
}
