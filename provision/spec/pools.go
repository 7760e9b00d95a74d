package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// nodeCount returns len(c.Nodes()). It also works for specs that are not validated yet.
func nodeCount(c *Cluster) int {
	n := 0
	for _, p := range c.Spec.NodePools {
		n += p.size()
	}
	return n
}

func poolPath(i int) string { return fmt.Sprintf("spec.nodePools[%d]", i) }

func validatePools(d *document, c *Cluster) {
	pools := c.Spec.NodePools
	names, hosts := map[string]int{}, newHostChecks(d, c)
	for i, p := range pools {
		path := poolPath(i)
		if first, ok := names[p.Name]; ok && p.Name != "" {
			d.judge(path+".name", "give every pool a different name", "%q is already the name of nodePools[%d]", p.Name, first)
		} else {
			names[p.Name] = i
		}
		if d.dnsLabel(path+".name", p.Name) {
			validateNodeNames(d, path+".name", c.Metadata.Name, p)
		}
		validateSize(d, path, p, c.Spec.Provider)
		hosts.pool(path, p)
		validateLabels(d, path+".labels", p.Labels)
		validateTaints(d, path+".taints", p.Taints)
		validateRollingUpdate(d, path+".rollingUpdate", p)
	}
	if n := nodeCount(c); n > maxNodes {
		d.judge("spec.nodePools", fmt.Sprintf("ask for at most %d nodes", maxNodes), "the pools have %d nodes, more than Kubernetes supports", n)
	}
	validateControlPlanes(d, pools)
}

// validateControlPlanes requires an odd number: an even number of etcd members tolerates no more
// failures than the next smaller odd number.
func validateControlPlanes(d *document, pools []NodePool) {
	n, last := 0, -1
	for i, p := range pools {
		if p.Role == ControlPlane && p.HostsFrom != nil {
			return // their number is not known yet
		}
		if p.Role == ControlPlane {
			n, last = n+p.size(), i
		}
	}
	const path, remedy = "spec.nodePools", "use 1, or 3 or 5 to survive the loss of machines"
	at := poolPath(last)
	for _, field := range []string{".replicas", ".hosts"} {
		if d.present(at + field) {
			at += field
			break
		}
	}
	switch {
	case d.isBad(path):
	case last < 0:
		d.judge(path, "add `- {name: cp, role: control-plane, replicas: 3}`", "there is no control-plane node")
	case n > 7:
		d.judge(at, "use 3 or 5; 7 are the most", "%d control-plane nodes: etcd has at most 7 members", n)
	case n > 0 && n%2 == 0:
		d.judge(at, remedy, "%d control-plane nodes: an even number tolerates no more failures than %d", n, n-1)
	}
}

// validateNodeNames checks the longest name, that of the last node.
func validateNodeNames(d *document, path, cluster string, p NodePool) {
	if len(p.Hosts) > 0 {
		return // they have names of their own
	}
	name := nodeName(cluster, p.Name, max(p.size(), 1))
	if len(name) > validation.DNS1123LabelMaxLength && !d.isBad("metadata.name") {
		d.judge(path, "shorten the names of the cluster and the pool", "the node name %s has %d characters, more than 63", name, len(name))
	}
}

func validateSize(d *document, path string, p NodePool, provider Provider) {
	if d.isBad(path+".replicas") || d.isBad(path+".hosts") {
		return
	}
	replicas, hosts := d.present(path+".replicas"), d.present(path+".hosts")
	if p.HostsFrom != nil && !replicas {
		return // its hosts are not known yet
	}
	if provider.Hosts != nil {
		d.hostsListed(path, replicas, len(p.Hosts) > 0)
		return
	}
	makes := provider.Local != nil || provider.AWS != nil
	switch {
	case makes && hosts:
		d.judge(path+".hosts", "remove it and write replicas, or use the hosts provider", "only the hosts provider uses hosts")
	case !replicas && !hosts:
		d.judge(path+".replicas", "add it, for example `replicas: 1`", "is missing")
	}
}

// hostsListed checks that a pool of the hosts provider lists its hosts.
func (d *document) hostsListed(path string, replicas, hosts bool) {
	const example = "`hosts: [{address: 192.0.2.10}]`"
	switch {
	case replicas && hosts:
		d.judge(path+".replicas", "remove it; hosts lists the machines", "the hosts provider creates no machines")
	case replicas:
		d.judge(path+".replicas", "list the machines instead: "+example, "the hosts provider creates no machines")
	case !hosts:
		d.judge(path+".hosts", "list the machines: "+example, "the pool has no hosts")
	}
}

const qualifiedName = "use letters, digits, dashes, dots and underscores, up to 63, after an optional DNS prefix and a slash: example.com/team"

func validateLabels(d *document, path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		at, value := joinKey(path, key), labels[key]
		switch {
		case len(validation.IsQualifiedName(key)) > 0:
			d.judgeKey(at, qualifiedName, "%q is not the key of a label", key)
		case reservedLabel(key) != "":
			d.judgeKey(at, "use a prefix of your own, such as example.com/", "%s is reserved: %s", key, reservedLabel(key))
		case len(validation.IsValidLabelValue(value)) > 0:
			d.judge(at, "use up to 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
				"%q is not the value of a label", value)
		}
	}
}

func validateRollingUpdate(d *document, path string, p NodePool) {
	value := p.RollingUpdate.MaxUnavailable
	switch at := path + ".maxUnavailable"; {
	case value == "" || d.isBad(at):
	case p.Role == ControlPlane:
		d.judge(at, "remove it", "control planes are always changed one at a time")
	case !maxUnavailable.MatchString(value):
		d.judge(at, `write a number of nodes from 1, or a percentage from "1%" to "100%"`, "%q is neither a number of nodes nor a percentage", value)
	}
}

// settableLabels and settablePrefixes are the labels in Kubernetes' domains that a kubelet may set
// on its node (k8s.io/kubelet/pkg/apis/well_known_labels.go), without those that it detects itself.
var (
	settableLabels   = []string{"topology.kubernetes.io/zone", "topology.kubernetes.io/region"}
	settablePrefixes = []string{"kubelet.kubernetes.io", "node.kubernetes.io"}
)

// reservedLabel returns why the user cannot set a label, or "".
func reservedLabel(key string) string {
	prefix, _, ok := strings.Cut(key, "/")
	if !ok || slices.Contains(settableLabels, key) {
		return ""
	}
	for _, p := range settablePrefixes {
		if prefix == p || strings.HasSuffix(prefix, "."+p) {
			return ""
		}
	}
	switch {
	case prefix == "node-role.kubernetes.io":
		return "slipway sets it from the pool's role, and the NodeRestriction admission plugin does not allow nodes to set it"
	case prefix == "slipway.dev" || strings.HasSuffix(prefix, ".slipway.dev"):
		return "it belongs to slipway"
	case prefix == "kubernetes.io" || prefix == "k8s.io" || strings.HasSuffix(prefix, ".kubernetes.io") || strings.HasSuffix(prefix, ".k8s.io"):
		return "the NodeRestriction admission plugin does not allow nodes to set Kubernetes' labels"
	}
	return ""
}

func validateTaints(d *document, path string, taints []Taint) {
	seen := map[Taint]int{}
	for i, t := range taints {
		at := fmt.Sprintf("%s[%d]", path, i)
		same := Taint{Key: t.Key, Effect: t.Effect}
		if first, ok := seen[same]; ok && !d.isBad(at) {
			d.judge(at, "remove one of the two", "taints[%d] has the same key and effect", first)
			continue
		}
		seen[same] = i
		switch prefix, name, _ := strings.Cut(t.Key, "/"); {
		case len(validation.IsQualifiedName(t.Key)) > 0:
			d.judge(at+".key", qualifiedName, "%q is not the key of a taint", t.Key)
		case prefix == "node-role.kubernetes.io" && (name == "control-plane" || name == "master"):
			d.judge(at+".key", "remove it", "%s is reserved: slipway sets it from the pool's role", t.Key)
		case prefix == "node.kubernetes.io":
			d.judge(at+".key", "use a prefix of your own, such as example.com/", "%s is reserved: Kubernetes sets it from the node's conditions", t.Key)
		}
		if len(validation.IsValidLabelValue(t.Value)) > 0 {
			d.judge(at+".value", "use up to 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
				"%q is not the value of a taint", t.Value)
		}
	}
}
