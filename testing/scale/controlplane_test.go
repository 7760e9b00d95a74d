package scale_test

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/controlplane"
)

// writers is how many nodes are made at a time.
const writers = 16

// startControlPlane starts an etcd member for every control plane and one API server for all of them, with the
// cluster's certificates, and puts there what an apply does: the objects of every cluster, and the nodes.
func (c *cluster) startControlPlane(t testing.TB) {
	t.Helper()
	var machines []spec.Machine
	for _, m := range c.infra.Machines {
		if m.Role == spec.ControlPlane {
			machines = append(machines, m)
		}
	}
	identity := func(ca, name string) controlplane.Identity {
		item := c.input.PKI.Material[name]
		return controlplane.Identity{CA: c.input.PKI.Bundle(ca), Cert: item.Cert, Key: item.Key.Reveal()}
	}
	at := func(m spec.Machine, port uint16) string { return netip.AddrPortFrom(m.Address, port).String() }
	members := make([]controlplane.Member, len(machines))
	for i, m := range machines {
		members[i] = controlplane.Member{
			Name: m.Name, Client: at(m, 2379), Peer: at(m, 2380), Identity: identity(certs.EtcdCA, "etcd/server@"+m.Name),
		}
	}
	controlplane.StartMembers(t, members)
	first := machines[0]
	admin := identity(certs.KubernetesCA, certs.SuperAdmin)
	server := controlplane.APIServer{
		Address: at(first, 6443), Serving: identity(certs.KubernetesCA, "apiserver@"+first.Name), Admin: admin,
		Etcd: identity(certs.EtcdCA, "apiserver-etcd-client@"+first.Name), EtcdURL: "https://" + at(first, 2379),
	}.Start(t)
	for i, m := range machines {
		c.targets[m.Name+" "+at(m, 2379)] = members[i].Client
		for _, port := range []int{6443, 6444} { // 6444 is the node's balancer
			c.targets[m.Name+" "+net.JoinHostPort("127.0.0.1", strconv.Itoa(port))] = server.Address
		}
	}
	api, err := kube.New(kube.Config(nil, server.URL(), admin.CA, admin.Cert, admin.Key))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := stack.Manifests(c.input)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	c.register(t, api)
	available(t, api)
}

// available lets the cluster's DNS be what its controller would say of pods that run.
func available(t testing.TB, api *kube.Client) {
	t.Helper()
	deployments := api.Typed().AppsV1().Deployments("kube-system")
	dns, err := deployments.Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := *dns.Spec.Replicas
	dns.Status = appsv1.DeploymentStatus{ObservedGeneration: dns.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	if _, err := deployments.UpdateStatus(t.Context(), dns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// register makes the nodes as kubelets do, Ready, and gives them their labels and taints as slipway does.
func (c *cluster) register(t testing.TB, api *kube.Client) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(writers)
	for _, m := range c.infra.Machines {
		group.Go(func() error {
			nodes := api.Typed().CoreV1().Nodes()
			want := c.desired.Nodes[m.Name]
			node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: map[string]string{
				"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
				"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": m.Name,
			}}}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			node.Status = kubeletStatus(m, want.Version)
			if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
				return err
			}
			return api.EnsureNode(ctx, m.Name, want, func(string) {})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// kubeletStatus is about as much as a kubelet says.
func kubeletStatus(m spec.Machine, version string) corev1.NodeStatus {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	status := corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.Address.String()}, {Type: corev1.NodeHostName, Address: m.Name}},
		NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion: version, OSImage: "Debian GNU/Linux 13 (trixie)", KernelVersion: "6.12.48", Architecture: "amd64",
			OperatingSystem: "linux", ContainerRuntimeVersion: "containerd://2.4.2", MachineID: m.Name, SystemUUID: m.Name, BootID: m.Name,
		},
	}
	conditions := []struct {
		kind   corev1.NodeConditionType
		status corev1.ConditionStatus
	}{
		{corev1.NodeMemoryPressure, corev1.ConditionFalse},
		{corev1.NodeDiskPressure, corev1.ConditionFalse},
		{corev1.NodePIDPressure, corev1.ConditionFalse},
		{corev1.NodeReady, corev1.ConditionTrue},
	}
	for _, condition := range conditions {
		status.Conditions = append(status.Conditions, corev1.NodeCondition{
			Type: condition.kind, Status: condition.status, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
			Reason: "Kubelet" + string(condition.kind), Message: "kubelet says so of " + string(condition.kind),
		})
	}
	for i := range 8 {
		status.Images = append(status.Images, corev1.ContainerImage{
			Names: []string{fmt.Sprintf("images.example/%s/app-%d:v1.2.3", m.Pool, i)}, SizeBytes: 100 << 20,
		})
	}
	return status
}
