package provision

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// Refuse gives the reasons why a difference must not be carried out, joined in one error; nil is permission.
// It is a pure function of what was asked and what was seen on the hosts.
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
	return refusal(reasons)
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
