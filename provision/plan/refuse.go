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
	// Cluster has those that concern all of it: nothing is done anywhere.
	Cluster []string
	// Hosts has those that concern one: it is left alone, and the others go on.
	Hosts map[string][]string
}

func (r *Refusals) host(name, reason string) {
	if r.Hosts == nil {
		r.Hosts = map[string][]string{}
	}
	r.Hosts[name] = append(r.Hosts[name], reason)
}

// Refuse finds what must not be carried out. It is a pure function of what was asked, what was wanted before and what was
// seen on the hosts. Those that could not be reached are left alone in any case.
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
			r.host(m.Name, fmt.Sprintf("it is part of another cluster, with the UID %s (this one's is %s): it is not touched", f.ClusterUID, in.UID))
		}
		if !f.Systemd {
			r.host(m.Name, "systemd does not run there, and slipway's components are its units")
		}
		if why := refuseAccount(h); m.Role == spec.ControlPlane && why != "" {
			r.host(m.Name, why)
		}
		if p := h.Blind(); p != "" {
			r.host(m.Name, fmt.Sprintf("%s leads to nothing: the directory of bundles that the machine mounts was removed. It is here again; "+
				"restart the machine, one control plane after another, to have it mount this one (`docker restart %s`)", p, m.Name))
		}
		if f.Arch != "amd64" {
			r.host(m.Name, fmt.Sprintf("the machine is %s, the bundle is amd64", f.Arch))
		}
		if !f.CgroupV2 && !*in.Cluster.Spec.AllowCgroupV1 {
			r.host(m.Name, "the host uses cgroup v1, which Kubernetes has deprecated (KEP-4569); "+
				"boot it with systemd.unified_cgroup_hierarchy=1, or set spec.allowCgroupV1: true")
		}
	}
	r.data(in, before, observed)
	return r
}

// stores are the control planes by what they have of etcd: data, that of another generation, none, damaged data; those whose
// etcd runs where the cluster is to begin again; those that could not be looked at; and those that are another cluster's.
type stores struct{ with, other, without, damaged, running, unseen, anothers []string }

func storesOf(in stack.Input, observed stack.State) (s stores) {
	for _, m := range in.ControlPlanes() {
		h, ok := observed.Hosts[m.Name]
		switch {
		case stack.Strange(in, h.Facts): // so is what it has
			s.anothers = append(s.anothers, m.Name)
		case ok && in.RebuildEmpty && !stack.OtherGeneration(in, h.Facts) && !h.Facts.Initialized: // whatever it has is of this beginning
		case ok && h.Facts.EtcdData && (in.RebuildEmpty || stack.OtherGeneration(in, h.Facts)):
			s.other = append(s.other, m.Name)
		case ok && in.RebuildEmpty && h.Units[stack.EtcdService].Active: // it may have all in files that are only gone from their directory
			s.running = append(s.running, m.Name)
		case ok && h.Facts.EtcdData:
			s.with = append(s.with, m.Name)
		case ok && h.Facts.EtcdDamaged:
			s.damaged = append(s.damaged, m.Name)
		case ok:
			s.without = append(s.without, m.Name)
		case !slices.Contains(in.Gone, m.Name):
			s.unseen = append(s.unseen, m.Name)
		}
	}
	return s
}

// rebuild refuses to begin again where there is data of before.
func (s stores) rebuild() []string {
	var reasons []string
	for _, row := range []struct {
		names []string
		what  string
	}{
		{s.other, "still has etcd's data; apply without it"},
		{s.running, "has an etcd that runs, and may have its data in files that are still open: save it (`etcdctl snapshot save`), and stop it"},
		{s.damaged, "has damaged etcd data, of which something may be saved; move /var/lib/etcd away first"},
		{s.unseen, "could not be looked at, and may have etcd's data"},
	} {
		if len(row.names) > 0 {
			reasons = append(reasons, "--rebuild-empty: "+strings.Join(row.names, ", ")+" "+row.what)
		}
	}
	return reasons
}

// data refuses what would start an empty etcd where there has been one with data.
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
		return
	}
	if len(s.with) == 0 && len(s.unseen) == 0 {
		was, why := cmp.Or(before.Up, &Up{}), "no control plane has etcd's data"
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
		r.host(name, "the data of its member of etcd is damaged: it has no write-ahead log, or no database; replacing a member is not available yet. "+
			"Put /var/lib/etcd back from a copy")
	}
	// When the API answered, most had data: where fewer have it now, nobody without it may begin.
	few := len(s.with)+len(s.unseen) < len(in.ControlPlanes())/2+1
	for _, name := range s.without {
		if few || before.Up == nil || before.Up.has(name) || observed.Hosts[name].Facts.Initialized {
			r.host(name, "it had a member of etcd, and has no etcd data any more; with an empty store it could vote on what it has forgotten, and "+
				"replacing a member is not available yet. Put /var/lib/etcd back")
		}
	}
}

// otherData says why etcd's data of another generation is not touched.
func otherData(in stack.Input, f stack.Facts) string {
	if f.Generation != "" && f.Generation == in.Rebuilding {
		return "its etcd data is of an `apply --rebuild-empty` that has not come to its end; it is left alone. If the data of before is gone for good, " +
			"give the flag again"
	}
	return "its etcd data is of another beginning of this cluster (`apply --rebuild-empty` makes one) than the state's, and cannot go together with it; it is " +
		"left alone. If the state is older than this host, restore the newest. If " + stack.ClusterFile + " was lost there, put it back as it is on the others. " +
		"Only else move /var/lib/etcd away, to where you can still read it"
}

// BeenUp says whether the state or any host knows that the cluster has been up.
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

// refuse finds what a cluster that has been up cannot take: new authorities in place of those that everything in it
// trusts, and other networks than those that are in its certificates, Services and pods.
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
			reasons = append(reasons, fmt.Sprintf("the cluster has been up, and the state that the spec names has no %q of it: is it the right one? "+
				"Restore it, or set spec.state to where it is", c.Name))
		}
	}
	if up := cmp.Or(b.Up, b.Applied.Up()); up != nil {
		return append(reasons, up.moved(in.Cluster, in.AllowPluginChange)...)
	}
	return append(reasons, installedMoved(in, observed)...)
}

// installedMoved is Up.moved where only hosts know that the cluster has been up: what they were installed with counts.
func installedMoved(in stack.Input, observed stack.State) []string {
	now := in.Cluster.Spec.Network
	var reasons []string
	for _, m := range in.ControlPlanes() {
		f := observed.Hosts[m.Name].Facts
		if !f.Initialized || stack.Strange(in, f) {
			continue
		}
		was := Up{PodSubnet: cmp.Or(f.PodSubnet, now.PodSubnet), ServiceSubnet: cmp.Or(f.ServiceSubnet, now.ServiceSubnet), DNSDomain: cmp.Or(f.DNSDomain, now.DNSDomain)}
		for _, reason := range was.moved(in.Cluster, true) {
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
	}
	return reasons
}

// foreign refuses where control planes have something that this state has not got the keys for: it is that of another
// cluster, or older than the cluster's last rotation. What slipway recorded when it put it there counts, not what became of
// it since.
//
// A rotation takes in every control plane that there is, and most there have to be. So where most have what this state
// gives, it is not the state that is older: it is the control plane, which was away then, and it alone is left alone.
func (r *Refusals) foreign(in stack.Input, observed stack.State) {
	known := map[bool]map[string][]string{true: allowed(in, true), false: allowed(in, false)}
	agree, others := map[string]int{}, map[string][]string{} // by path: how many have what this state gives, and who does not
	for _, m := range in.ControlPlanes() {
		if stack.Strange(in, observed.Hosts[m.Name].Facts) {
			continue // it is left alone
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
				r.host(name, fmt.Sprintf("%s was put there by slipway with another state, and most control planes have the keys of this one: it was away when they were "+
					"rotated. It is not touched. If that is so, remove %s there, and `slipway apply` gives it those of now", path, stack.OwnedFile))
				continue
			}
			r.Cluster = append(r.Cluster, fmt.Sprintf("%s: %s was put there by slipway with another state than the one that the spec names, or with a newer one: "+
				"its keys are not in this one, and going on would lock everybody out. Restore the newest state, or set spec.state to where it is", name, path))
		}
	}
}

// allowed are digests of what slipway may have put on a host with this state, by path. An older slipway recorded no
// authorities there (keys): then their certificates tell, but for the user's own, which may have come with another one.
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
			r.host(name, "it is not a member of etcd, and adding members to a living cluster is not available yet")
		case have.PeerURL != desired.Members[name].PeerURL:
			r.host(name, fmt.Sprintf("its member of etcd is at %s, should be at %s, and moving members is not available yet",
				have.PeerURL, desired.Members[name].PeerURL))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(observed.Members)) {
		if _, wanted := desired.Members[name]; !wanted {
			r.Cluster = append(r.Cluster, fmt.Sprintf("etcd has a member %q that is not in the spec, and removing members is not available yet", name))
		}
	}
}

// Refusal is the error of reasons for which nothing is done anywhere; what says what is as it was.
func Refusal(what string, reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	return fmt.Errorf("%s, since:\n  %s", what, strings.Join(slices.Sorted(slices.Values(reasons)), "\n  "))
}

// Reasons why nothing is done, and what is as it was then.
const (
	nothingChanged = "nothing was changed"
	HostsUnchanged = "nothing was changed on any host"
)
