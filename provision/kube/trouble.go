package kube

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// shortages are the conditions for a lack of resources.
var shortages = []corev1.NodeConditionType{
	corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable,
}

// follows maps conditions to the taint that the node lifecycle controller sets (k8s.io/api,
// core/v1, well_known_taints.go).
var follows = map[string]string{
	corev1.TaintNodeMemoryPressure:     string(corev1.NodeMemoryPressure),
	corev1.TaintNodeDiskPressure:       string(corev1.NodeDiskPressure),
	corev1.TaintNodePIDPressure:        string(corev1.NodePIDPressure),
	corev1.TaintNodeNetworkUnavailable: string(corev1.NodeNetworkUnavailable),
	corev1.TaintNodeNotReady:           string(corev1.NodeReady),
	corev1.TaintNodeUnreachable:        string(corev1.NodeReady),
}

// short returns the shortages of a node by condition, with the kubelet's message.
func short(node *corev1.Node) map[string]string {
	var all map[string]string
	for _, c := range node.Status.Conditions {
		if c.Status == corev1.ConditionTrue && slices.Contains(shortages, c.Type) {
			if all == nil {
				all = map[string]string{}
			}
			all[string(c.Type)] = strings.TrimSpace(c.Reason + " " + c.Message)
		}
	}
	return all
}

// Trouble returns, sorted, why pods cannot be scheduled to a node or will be evicted, apart from
// its not being Ready: its shortages, and the taints that Kubernetes or a cloud provider has set
// and that want does not have. Cordons and other taints are set on purpose, so they do not count.
func (n Node) Trouble(want Node) []string {
	var all []string
	for _, condition := range slices.Sorted(maps.Keys(n.Short)) {
		all = append(all, condition+": "+n.Short[condition])
	}
	for _, taint := range n.Foreign(want) {
		key, _, _ := strings.Cut(taint, ":")
		prefix, _, _ := strings.Cut(key, "/")
		condition, known := follows[key]
		_, told := n.Short[condition]
		switch {
		case key == corev1.TaintNodeUnschedulable || prefix != "node.kubernetes.io" && prefix != "node.cloudprovider.kubernetes.io":
		case told || known && condition == string(corev1.NodeReady): // Ready already shows that
		default:
			all = append(all, "taint "+taint)
		}
	}
	return all
}

// Foreign returns the node's taints that want does not have, as "key:effect", sorted.
func (n Node) Foreign(want Node) []string {
	var all []string
	for _, taint := range slices.Sorted(maps.Keys(n.Taints)) {
		if _, wanted := want.Taints[taint]; !wanted {
			all = append(all, taint)
		}
	}
	return all
}
