package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Refusals are reasons why a difference must not be carried out.
type Refusals struct {
	// Cluster has the reasons that concern the whole cluster: nothing is changed anywhere.
	Cluster []string
	// Hosts has the reasons that concern one host: it is held, and the others continue.
	Hosts map[string][]string
}

func (r *Refusals) host(name, reason string) {
	if r.Hosts == nil {
		r.Hosts = map[string][]string{}
	}
	r.Hosts[name] = append(r.Hosts[name], reason)
}

// Refuse returns what must not be carried out. It is a pure function of the spec, the previous
// input and the observed state. Hosts that could not be reached are held in any case.
func Refuse(in stack.Input, before Before, observed stack.State) Refusals {
	r := Refusals{Cluster: before.refuse(in, observed)}
	if BeenUp(in, observed) {
		r.foreign(in, observed)
	}
	for _, m := range in.Machines {
		h, ok := observed.Hosts[m.Name]
		if !ok {
			continue
		}
		f := h.Facts
		if stack.Strange(in, f) {
			r.host(m.Name, fmt.Sprintf("it is part of another cluster, with the UID %s (this one's is %s): it is not changed", f.ClusterUID, in.UID))
		}
		if why := mistaken(in, m, f); why != "" {
			r.host(m.Name, why)
		}
		if !f.Systemd {
			r.host(m.Name, "it does not run systemd, which slipway's components need")
		}
		if why := refuseAccount(h); m.Role == spec.ControlPlane && why != "" {
			r.host(m.Name, why)
		}
		if p := h.Blind(); p != "" {
			r.host(m.Name, fmt.Sprintf("%s leads to nothing: the directory of bundles that the machine mounts was removed. It exists again; "+
				"restart the machine, one control plane after another, to mount it (`docker restart %s`)", p, m.Name))
		}
		if known := stack.Architectures(); !slices.Contains(known, f.Arch) {
			r.host(m.Name, fmt.Sprintf("its processor is %s, and slipway has programs for %s: take it out of the spec, or use another machine",
				cmp.Or(f.Arch, "unknown"), strings.Join(known, " and ")))
		}
		if !f.CgroupV2 && !*in.Cluster.Spec.AllowCgroupV1 {
			r.host(m.Name, "the host uses cgroup v1, which Kubernetes has deprecated (KEP-4569); "+
				"boot it with systemd.unified_cgroup_hierarchy=1, or set spec.allowCgroupV1: true")
		}
	}
	r.data(in, before, observed)
	return r
}

// mistaken says why a machine is not the node that the spec takes it for: it was set up as another one.
// Its address may have become that of another machine, and its SSH host key, if it was copied with a
// disk, proves nothing. Before a cluster has been up, a machine may still get another name.
func mistaken(in stack.Input, m spec.Machine, f stack.Facts) string {
	if f.Node == "" || f.Node == m.Name || f.ClusterUID != in.UID {
		return ""
	}
	named := func(other spec.Machine) bool { return other.Name == f.Node }
	if !f.Initialized && !slices.ContainsFunc(in.Machines, named) {
		return ""
	}
	return fmt.Sprintf("the machine is the node %s of this cluster, and has its data: it is not changed. If machines have exchanged their addresses, or one is "+
		"listed twice, correct that in the spec or in the network. Only if that node is not needed any more, install the machine anew", f.Node)
}

// stores are the control planes grouped by their etcd data: data, data of another generation, none,
// damaged data; hosts whose etcd runs although the cluster is to start again; hosts that could not
// be observed; and hosts of another cluster.
type stores struct{ with, other, without, damaged, running, unseen, anothers []string }

func storesOf(in stack.Input, observed stack.State) (s stores) {
	for _, m := range in.ControlPlanes() {
		h, seen := observed.Hosts[m.Name]
		switch {
		case stack.Strange(in, h.Facts): // so its data is, too
			s.anothers = append(s.anothers, m.Name)
		case !seen && slices.Contains(in.Gone, m.Name):
		case !seen:
			s.unseen = append(s.unseen, m.Name)
		case rebuilt(in, h.Facts): // its data is of this generation
		case h.Facts.EtcdData && (in.RebuildEmpty || stack.OtherGeneration(in, h.Facts)):
			s.other = append(s.other, m.Name)
		case in.RebuildEmpty && h.Units[stack.EtcdService].Active:
			// Its data may be in open files that were only removed from their directory.
			s.running = append(s.running, m.Name)
		case h.Facts.EtcdData:
			s.with = append(s.with, m.Name)
		case h.Facts.EtcdDamaged:
			s.damaged = append(s.damaged, m.Name)
		default:
			s.without = append(s.without, m.Name)
		}
	}
	return s
}

// rebuilt reports whether an interrupted rebuild has already started a host again, so that its data
// is of this generation.
func rebuilt(in stack.Input, f stack.Facts) bool {
	return in.RebuildEmpty && !stack.OtherGeneration(in, f) && !f.Initialized
}

// rebuild refuses to start again if there is data of the previous generation.
func (s stores) rebuild() []string {
	var reasons []string
	for _, row := range []struct {
		names []string
		what  string
	}{
		{s.other, "still has etcd data; apply without it"},
		{s.running, "runs etcd, whose data may be in files that are still open: save it (`etcdctl snapshot save`), and stop etcd"},
		{s.damaged, "has damaged etcd data, parts of which may be recoverable; move /var/lib/etcd away first"},
		{s.unseen, "could not be observed, and may have etcd data"},
	} {
		if len(row.names) > 0 {
			reasons = append(reasons, "--rebuild-empty: "+strings.Join(row.names, ", ")+" "+row.what)
		}
	}
	return reasons
}

// data refuses what would start an empty etcd in place of one with data.
func (r *Refusals) data(in stack.Input, before Before, observed stack.State) {
	s := storesOf(in, observed)
	if in.RebuildEmpty {
		r.Cluster = append(r.Cluster, s.rebuild()...)
		return
	}
	for _, name := range s.other {
		r.host(name, otherData(in, observed.Hosts[name].Facts))
	}
	if !BeenUp(in, observed) {
		r.leftovers(s.with, observed)
		return
	}
	if len(s.with) == 0 && len(s.unseen) == 0 {
		was, why := cmp.Or(before.Up, &Up{}), "no control plane has etcd data"
		if len(s.damaged) > 0 {
			why += "; that of " + strings.Join(s.damaged, ", ") + " is damaged"
		}
		if len(s.anothers) > 0 {
			why += "; " + strings.Join(s.anothers, ", ") + " is part of another cluster"
		}
		for _, name := range s.other {
			why += "; " + name + ": " + otherData(in, observed.Hosts[name].Facts)
		}
		r.Cluster = append(r.Cluster, was.empty(in.Cluster.Metadata.Name, why))
		return
	}
	for _, name := range s.damaged {
		r.host(name, "its etcd data is damaged: the write-ahead log or the database is missing; replacing a member is not available yet. "+
			"Restore /var/lib/etcd from a copy")
	}
	// When the API answered, most had data: if fewer have it now, a member without data must not
	// start.
	few := len(s.with)+len(s.unseen) < len(in.ControlPlanes())/2+1
	for _, name := range s.without {
		if few || before.Up == nil || before.Up.has(name) || observed.Hosts[name].Facts.Initialized {
			r.host(name, "it had an etcd member, and its etcd data is gone; an empty member could vote on entries that it has lost, and "+
				"replacing a member is not available yet. Restore /var/lib/etcd")
		}
	}
}

// leftovers refuses, in a cluster that has never been up, to start etcd with data on hosts to which
// slipway has written nothing: another installer has left it, and it may be wanted.
func (r *Refusals) leftovers(hosts []string, observed stack.State) {
	for _, name := range hosts {
		if h := observed.Hosts[name]; h.Facts.ClusterUID == "" && len(h.Owned) == 0 {
			r.host(name, "there is etcd data in /var/lib/etcd that is not this cluster's: another installer has left it. It is not changed. If the machine is "+
				"another cluster's, take it out of the spec; if not, move the data away, to a place where you can still read it (`mv /var/lib/etcd /var/lib/etcd.old`)")
		}
	}
}

// otherData says why etcd data of another generation is not changed.
func otherData(in stack.Input, f stack.Facts) string {
	if f.Generation != "" && f.Generation == in.Rebuilding {
		return "its etcd data is from an `apply --rebuild-empty` that did not complete; it is not changed. If the previous data is lost permanently, " +
			"give the flag again"
	}
	return "its etcd data is of another generation of this cluster than the state (`apply --rebuild-empty` starts one), and they do not fit; " +
		"it is not changed. If the state is older than this host, restore the newest state. " +
		"If " + stack.ClusterFile + " was lost there, restore it with the content that it has on the others. " +
		"Only otherwise move /var/lib/etcd away, to a place where you can still read it"
}

// BeenUp reports whether the state or any host records that the cluster has been up.
func BeenUp(in stack.Input, observed stack.State) bool {
	if in.RebuildEmpty || in.BeenUp {
		return !in.RebuildEmpty
	}
	for _, h := range observed.Hosts {
		if h.Facts.Initialized && !stack.Strange(in, h.Facts) {
			return true
		}
	}
	return false
}

// refuse returns what a cluster that has been up cannot accept: CAs other than those that
// everything in it trusts, and networks other than those in its certificates, Services and pods.
func (b Before) refuse(in stack.Input, observed stack.State) []string {
	if !BeenUp(in, observed) {
		return nil
	}
	var reasons []string
	kinds := map[string]certs.Kind{}
	for _, q := range in.PKI.Requests {
		kinds[q.Name] = q.Kind
	}
	for _, c := range b.Issued {
		if kinds[c.Name] != certs.Leaf && c.Reason == certs.Missing {
			reasons = append(reasons, fmt.Sprintf("the cluster has been up, and the state that the spec names has no %q for it: is it the right state? "+
				"Restore it, or set spec.state to its place", c.Name))
		}
	}
	up := b.Up
	if up == nil {
		up = b.Applied.Up() // which parses a whole spec
	}
	if up != nil {
		return append(reasons, up.moved(in.Cluster, in.AllowPluginChange)...)
	}
	return append(reasons, installedMoved(in, observed)...)
}

// installedMoved is Up.moved if only hosts record that the cluster has been up: then the recorded
// inputs of their installation count.
func installedMoved(in stack.Input, observed stack.State) []string {
	now := in.Cluster.Spec.Network
	var reasons []string
	for _, m := range in.ControlPlanes() {
		f := observed.Hosts[m.Name].Facts
		if !f.Initialized || stack.Strange(in, f) {
			continue
		}
		was := Up{
			PodSubnet: cmp.Or(f.PodSubnet, now.PodSubnet), ServiceSubnet: cmp.Or(f.ServiceSubnet, now.ServiceSubnet),
			DNSDomain: cmp.Or(f.DNSDomain, now.DNSDomain),
		}
		for _, reason := range was.moved(in.Cluster, true) {
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
	}
	return reasons
}

// foreign refuses if control planes have files whose keys are not in this state: these belong to
// another cluster, or the state is older than the cluster's last rotation. It compares what slipway
// recorded when it wrote the files, not what became of them since.
//
// A rotation includes every control plane that exists, and most have to exist. So if most have what
// this state returns, it is not the state that is older but the control plane, which was away then:
// only it is held.
func (r *Refusals) foreign(in stack.Input, observed stack.State) {
	known := map[bool]map[string][]string{true: allowed(in, true), false: allowed(in, false)}
	agree, others := map[string]int{}, map[string][]string{} // by path: how many have this state's file, and which do not
	for _, m := range in.ControlPlanes() {
		if stack.Strange(in, observed.Hosts[m.Name].Facts) {
			continue // it is held
		}
		owned := observed.Hosts[m.Name].Owned
		for path, digests := range known[owned[stack.AuthoritiesFile] != ""] {
			switch last := owned[path]; {
			case last == "":
			case slices.Contains(digests, last):
				agree[path]++
			default:
				others[path] = append(others[path], m.Name)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(others)) {
		for _, name := range others[path] {
			if agree[path] > len(in.ControlPlanes())/2 {
				r.host(name, fmt.Sprintf("slipway wrote %s with another state, and most control planes have the keys of this one: it was away when they were "+
					"rotated. It is not changed. If that is so, remove %s there, and `slipway apply` writes the current ones", path, stack.OwnedFile))
				continue
			}
			r.Cluster = append(r.Cluster, fmt.Sprintf("%s: slipway wrote %s with another state than the one that the spec names, or with a newer one: "+
				"its keys are not in this state, and to continue would lock out all clients. Restore the newest state, or set spec.state to its place", name, path))
		}
	}
}

// allowed are digests of the files that slipway may have written to a host with this state, by
// path. An older slipway recorded no CA keys there: then the CA certificates are compared, except
// for the user's own CA, whose certificate may have been replaced.
func allowed(in stack.Input, keys bool) map[string][]string {
	digests := map[string][]string{}
	allow := func(path string, contents [][]byte) {
		for _, c := range contents {
			digests[path] = append(digests[path], stack.Digest(c))
		}
	}
	allow(stack.EncryptionKeysFile, in.KeyRings())
	if keys {
		allow(stack.AuthoritiesFile, stack.AuthorityRings(in.PKI))
	}
	for _, q := range in.PKI.Requests {
		switch {
		case q.Kind == certs.KeyPair:
			allow(q.Path+".pub", in.PKI.Bundles(q.Name))
		case q.Kind == certs.Authority && !keys && !slices.Contains(in.PKI.Own, q.Name):
			allow(q.Path+".crt", in.PKI.Bundles(q.Name))
		}
	}
	return digests
}

// Members refuses what would need a change of etcd's membership, which is not available yet.
func (r *Refusals) Members(desired, observed stack.State) {
	if observed.Members == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(desired.Members)) {
		switch have, ok := observed.Members[name]; {
		case !ok:
			r.host(name, "it is not an etcd member, and adding members to a running cluster is not available yet")
		case have.PeerURL != desired.Members[name].PeerURL:
			r.host(name, fmt.Sprintf("its etcd member is at %s, should be at %s, and moving members is not available yet",
				have.PeerURL, desired.Members[name].PeerURL))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(observed.Members)) {
		if _, wanted := desired.Members[name]; !wanted {
			r.Cluster = append(r.Cluster, fmt.Sprintf("etcd has a member %q that is not in the spec, and removing members is not available yet", name))
		}
	}
}

// Refusal is the error for reasons why nothing is done anywhere; what says what is unchanged.
func Refusal(what string, reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	return fmt.Errorf("%s, since:\n  %s", what, strings.Join(slices.Sorted(slices.Values(reasons)), "\n  "))
}

// What is unchanged after a refusal.
const (
	nothingChanged = "nothing was changed"
	HostsUnchanged = "nothing was changed on any host"
)
