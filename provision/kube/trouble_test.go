package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestTrouble(t *testing.T) {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "Because"}
	}
	for name, tt := range map[string]struct {
		conditions []corev1.NodeCondition
		taints     []string // keys, with NoSchedule
		want       []string
	}{
		"none": {
			conditions: []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionTrue), condition(corev1.NodeDiskPressure, corev1.ConditionFalse)},
			taints:     []string{"node-role.kubernetes.io/control-plane"},
		},
		"short of two, whose taints say the same": {
			conditions: []corev1.NodeCondition{condition(corev1.NodePIDPressure, corev1.ConditionTrue), condition(corev1.NodeDiskPressure, corev1.ConditionTrue)},
			taints:     []string{corev1.TaintNodeDiskPressure},
			want:       []string{"DiskPressure: Because", "PIDPressure: Because"},
		},
		"a taint whose condition has gone": {
			taints: []string{corev1.TaintNodeMemoryPressure}, want: []string{"taint node.kubernetes.io/memory-pressure:NoSchedule"},
		},
		"out of service":                   {taints: []string{corev1.TaintNodeOutOfService}, want: []string{"taint node.kubernetes.io/out-of-service:NoSchedule"}},
		"people's own":                     {taints: []string{corev1.TaintNodeUnschedulable, "example.com/dedicated"}},
		"what Ready tells a moment before": {taints: []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}},
	} {
		n := &corev1.Node{Status: corev1.NodeStatus{Conditions: tt.conditions}}
		for _, key := range tt.taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
		if got := observed(n).Trouble(controlPlane); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// A node is fit without a network plugin only where nobody but the user brings one.
func TestFits(t *testing.T) {
	n := node("x", corev1.ConditionFalse)
	if observed(n).Fits(Node{}) {
		t.Error("a node that is not ready for another reason fits")
	}
	n.Status.Conditions[0].Message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
	if have := observed(n); !have.Fits(Node{}) || have.Fits(Node{Ready: true}) {
		t.Errorf("without a network plugin: fits %t, and where it has to be Ready %t", have.Fits(Node{}), have.Fits(Node{Ready: true}))
	}
}
