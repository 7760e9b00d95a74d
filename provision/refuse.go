package provision

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
)

// Refuse gives the reasons why a difference must not be carried out, joined in one error; nil is permission.
// It is a pure function of what was asked, what was wanted before and what was seen on the hosts.
func Refuse(in Input, before Before, observed State) error {
	reasons := before.refuse(in, observed)
	for _, m := range in.Machines {
		h, ok := observed.Hosts[m.Name]
		if !ok {
			continue // it could not be reached, and is left alone
		}
		f := h.Facts
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
		if m.Role == spec.ControlPlane && initialized(observed) && !f.EtcdData {
			reasons = append(reasons, m.Name+": the cluster has been up, but this control plane has no etcd data; starting "+
				"it with an empty store could lose what the cluster knows. Put /var/lib/etcd back, or destroy the cluster and begin anew")
		}
	}
	return refusal(reasons)
}

// refuse finds what a cluster that has been up cannot take: new authorities in place of those that everything in it
// trusts, and other networks than those that are in its certificates, Services and pods.
func (b Before) refuse(in Input, observed State) []string {
	if !initialized(observed) {
		return nil
	}
	reasons := foreign(in, observed)
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
	if b.Applied == nil {
		return reasons
	}
	was, err := spec.Parse("applied", b.Applied.Spec)
	if err != nil {
		return reasons // another slipway's; the hosts say the rest
	}
	old, now := was.Spec.Network, in.Cluster.Spec.Network
	for _, f := range []struct{ field, was, is string }{
		{"podSubnet", old.PodSubnet, now.PodSubnet}, {"serviceSubnet", old.ServiceSubnet, now.ServiceSubnet}, {"dnsDomain", old.DNSDomain, now.DNSDomain},
	} {
		if f.was != f.is {
			reasons = append(reasons, fmt.Sprintf("spec.network.%s was %s and is %s: a cluster that has been up cannot change it; put it back", f.field, f.was, f.is))
		}
	}
	return reasons
}

// foreign finds control planes on which something was put that this state has not got the keys for: it is that of another
// cluster, or older than the cluster's last rotation. What slipway recorded when it put it there counts, not what became
// of it since.
func foreign(in Input, observed State) []string {
	known := map[bool]map[string][]string{true: allowed(in, true), false: allowed(in, false)}
	var reasons []string
	for _, m := range in.controlPlanes() {
		owned := observed.Hosts[m.Name].Owned
		records := known[owned[authoritiesFile] != ""]
		for _, path := range slices.Sorted(maps.Keys(records)) {
			if last := owned[path]; last != "" && !slices.Contains(records[path], last) {
				reasons = append(reasons, fmt.Sprintf("%s: %s was put there by slipway with another state than the one that the spec names, or with a newer one: "+
					"its keys are not in this one, and going on would lock everybody out. Restore the newest state, or set spec.state to where it is", m.Name, path))
			}
		}
	}
	return reasons
}

// allowed are digests of what slipway may have put on a host with this state, by path. An older slipway recorded no
// authorities there (keys): then their certificates tell, but for the user's own, which may have come with another one.
func allowed(in Input, keys bool) map[string][]string {
	digests := map[string][]string{}
	allow := func(path string, contents [][]byte) {
		for _, c := range contents {
			digests[path] = append(digests[path], digest(c))
		}
	}
	allow(encryptionKeysFile, in.keyRings())
	if keys {
		allow(authoritiesFile, authorityRings(in.PKI))
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

// RefuseMembers refuses what would need a change of etcd's membership, which is not available yet.
func RefuseMembers(desired, observed State) error {
	if observed.Members == nil {
		return nil
	}
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(desired.Members)) {
		switch have, ok := observed.Members[name]; {
		case !ok:
			reasons = append(reasons, name+": is not a member of etcd, and adding members to a living cluster is not available yet")
		case have.PeerURL != desired.Members[name].PeerURL:
			reasons = append(reasons, fmt.Sprintf("%s: its member of etcd is at %s, should be at %s, and moving members is not available yet",
				name, have.PeerURL, desired.Members[name].PeerURL))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(observed.Members)) {
		if _, wanted := desired.Members[name]; !wanted {
			reasons = append(reasons, fmt.Sprintf("etcd has a member %q that is not in the spec, and removing members is not available yet", name))
		}
	}
	return refusal(reasons)
}

func refusal(reasons []string) error {
	if len(reasons) == 0 {
		return nil
	}
	sort.Strings(reasons)
	return fmt.Errorf("nothing was changed, since:\n  %s", strings.Join(reasons, "\n  "))
}
