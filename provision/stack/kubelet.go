package stack

import (
	"fmt"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// The kubelet's unit, port and files.
const (
	// KubeletService makes a machine a node.
	KubeletService = "kubelet.service"
	KubeletFile    = "/var/lib/kubelet/config.yaml"
	kubeletPort    = 10250
	kubeletConf    = "kubelet.conf"
	kubeletPKI     = "/var/lib/kubelet/pki"
	noResolvConf   = KubernetesDir + "/resolv.conf"
)

// kubelet runs a node's pods.
var kubelet = Component{
	Name: "kubelet", On: Everywhere,
	Unit: &Service{
		Name: KubeletService, Text: kubeletUnit, Programs: []string{"kubelet"},
		Files:    []string{KubeletFile, KubernetesDir + "/" + kubeletConf, CAFile},
		Issuers:  []string{certs.KubernetesCA, certs.ServiceAccounts},
		Health:   "http://127.0.0.1:10248/healthz",
		Disturbs: "pods continue to run",
	},
	Files: []ConfigFile{
		{Path: KubeletFile, Render: Node.kubeletConfig},
		{Path: noResolvConf, On: Node.noResolver, Render: fixed(func() []byte { return []byte("# No resolver that pods could reach.\n") }), Public: true},
	},
	Programs:    []string{"kubelet"},
	Kubeconfigs: []Kubeconfig{{Name: kubeletConf, User: "system:node", Port: BalancerPort, Cert: kubeletPKI + "/kubelet-client"}},
	Endpoints: []Endpoint{{
		Port: kubeletPort,
		Cert: kubeletPKI + "/kubelet.crt", Server: certs.KubernetesCA, Client: certs.KubernetesCA, Path: "/metrics",
	}},
	Clients: []Client{{Cert: kubeletPKI + "/kubelet-client.crt", Port: BalancerPort}},
}

func kubeletUnit(n Node) templates.Unit {
	args := map[string]string{
		"config": KubeletFile, "kubeconfig": KubernetesDir + "/" + kubeletConf,
		"hostname-override": n.Name, "node-ip": n.address(),
	}
	return templates.Unit{
		// No pod starts before the images of the bundle are imported: no registry has them.
		Description: "kubelet", Type: "notify", After: []string{containerdService, ImagesService, BalancerService},
		Exec: n.path("kubelet"), Args: flags(args, n.Cluster.Spec.Kubernetes.Kubelet.ExtraArgs),
		KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func (n Node) kubeletConfig() ([]byte, error) {
	k := templates.Kubelet{
		CgroupDriver: "systemd", AllowCgroupV1: *n.Cluster.Spec.AllowCgroupV1,
		ClusterDNS: n.Cluster.Spec.Network.DNSServiceIP().String(), DNSDomain: n.Cluster.Spec.Network.DNSDomain,
		ResolvConf: n.facts.ResolvConf, RestrictOOMScoreAdj: !n.facts.SysResource, SharedDisk: n.machine.SharedDisk,
		Reserved: reservations[n.Role], Patch: n.Cluster.Spec.Kubernetes.Kubelet.ConfigPatch,
	}
	if !n.facts.CgroupV2 {
		k.CgroupDriver = "cgroupfs" // the systemd driver needs the unified hierarchy to be of use
	}
	if n.noResolver() {
		k.ResolvConf = noResolvConf
	}
	for _, t := range n.AllTaints() {
		k.Taints = append(k.Taints, templates.Taint(t))
	}
	return n.once(fmt.Sprintf("kubelet %v", k), k.Render)
}

func (n Node) noResolver() bool { return n.facts.ResolvConf == "" }

// AllTaints returns the pool's taints, after the one that keeps workloads off control planes.
func (n Node) AllTaints() []spec.Taint {
	if !n.ControlPlane() {
		return n.Taints
	}
	own := spec.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}
	return append([]spec.Taint{own}, n.Taints...)
}

// reservations are the resources of a node that pods do not get, by role. The stack runs next to
// the pods, so that without these the scheduler would allocate its processors and memory a second
// time. They are what a small cluster's stack needs while it works, not while it is idle, and leave
// room for pods on a machine with 2 processors and 2 GiB, the minimum of kubeadm. For more, use
// kubelet.configPatch.
var reservations = map[spec.Role]templates.Reserved{
	// etcd, API server, controller manager and scheduler together take some 700 MiB, in addition to
	// a worker's components.
	spec.ControlPlane: {KubeCPU: "500m", KubeMemory: "1Gi", SystemCPU: "100m", SystemMemory: "128Mi"},
	// kubelet, containerd with its shims, kube-proxy, flanneld and the balancer.
	spec.Worker: {KubeCPU: "100m", KubeMemory: "256Mi", SystemCPU: "100m", SystemMemory: "128Mi"},
}
