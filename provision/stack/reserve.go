package stack

import (
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// reservations are what pods do not get of a node, by role. The stack runs beside the pods, so that without these the
// scheduler would give its processors and memory away a second time. They are what a small cluster's stack takes while it
// works, not while it rests, and leave room for pods on a machine with 2 processors and 2 GiB, the least that kubeadm takes.
// More is a matter of kubelet.configPatch.
var reservations = map[spec.Role]templates.Reserved{
	// etcd, API server, controller manager and scheduler together take some 700 MiB; what a worker has comes on top.
	spec.ControlPlane: {KubeCPU: "500m", KubeMemory: "1Gi", SystemCPU: "100m", SystemMemory: "128Mi"},
	// kubelet, containerd with its shims, kube-proxy, flanneld and the balancer.
	spec.Worker: {KubeCPU: "100m", KubeMemory: "256Mi", SystemCPU: "100m", SystemMemory: "128Mi"},
}
