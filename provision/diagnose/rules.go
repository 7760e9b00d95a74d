package diagnose

import (
	"slices"

	"slipway.dev/slipway/provision/stack"
)

// Symptoms that many causes share. Each is a list of rules, by name.
var (
	podsIll = []string{"crash-loop", "container-config", "pod-stuck", "pod-evicted", "pod-unschedulable"}
	dnsIll  = []string{"coredns", "dns", "webhook", "api-service"}
	nodeIll = slices.Concat([]string{"health", "node-missing", "node-not-ready", "node-pressure"}, dnsIll, podsIll)
	etcdIll = []string{"etcd-member-down", "etcd-no-quorum"}
	apiIll  = []string{
		"unit-" + stack.APIServerService, "api-server-down", "api-down", "unit-kube-controller-manager.service", "unit-kube-scheduler.service",
		"leader-silent", "balancer-down", "health", "unit-flanneld.service", "unit-kube-proxy.service", "node-missing", "node-not-ready", "drift",
	}
	certificateFaults = []string{
		"certificate-key", "certificate-expired", "certificate-not-yet-valid", "certificate-authority", "certificate-names", "certificate-served",
	}
	certificateIll = slices.Concat([]string{"certificate-served", "unit-etcd.service", "unit-kubelet.service"}, etcdIll, apiIll)
	// hostIll are all that can follow from a machine, but for other machines.
	hostIll = slices.Concat(
		[]string{
			"certificate-missing", "certificate-differs", "kubeconfig", "cni-config", "cni-plugins", "proxy-rules", "pod-network", "node-network", "image",
			"unit-containerd.service", "unit-slipway-images.service", "unit-slipway-balancer.service", "unit-etcd.service", "unit-kubelet.service",
			"etcd-slow", "drift",
		}, etcdIll, apiIll, nodeIll)
)

// Rules are everything that is looked for: causes before what follows from them.
var Rules = slices.Concat(
	[]Rule{
		{"machine", "a machine that cannot be reached, and the hop where the way ends", findMachines, hostIll, false},
		{
			"clock", "clocks that differ by more than certificates and etcd tolerate", findClocks,
			slices.Concat([]string{"certificate-not-yet-valid", "certificate-expired"}, certificateIll, nodeIll), false,
		},
		{"disk-full", "a disk of the cluster's directories without space or inodes", findDisks, hostIll, false},
		{"memory-low", "a machine without memory", findMemory, hostIll, false},
		{"pids-exhausted", "a machine without room for processes", findPIDs, hostIll, false},
		{
			"kernel-setting", "packet forwarding that was switched off", findSettings,
			slices.Concat([]string{"pod-network"}, dnsIll, podsIll), false,
		},
		{"not-installed", "a cluster that has not been installed", findNotInstalled, slices.Concat(certificateFaults, []string{"unit-disabled"}, hostIll), false},
		{"certificate-key", "a private key that does not belong to its certificate", findKeys, certificateIll, false},
		{"certificate-expired", "a certificate that has expired", findExpired, certificateIll, false},
		{"certificate-not-yet-valid", "a certificate that is not valid yet", findEarly, certificateIll, false},
		{"certificate-authority", "a certificate that another CA has signed", findForeign, certificateIll, false},
		{"certificate-names", "a certificate that lacks a name or an address", findNames, certificateIll, false},
		{"certificate-missing", "a certificate that is missing or cannot be read", findMissing, certificateIll, false},
		{"certificate-differs", "a certificate that is not the cluster's", findDiffering, certificateIll, false},
		{"certificate-served", "a certificate that is served and is not the one in its file", findServed, nil, false},
		{"kubeconfig", "a kubeconfig that leads elsewhere", findKubeconfigs, slices.Concat([]string{"unit-kubelet.service"}, apiIll, nodeIll), false},
		{
			"cni-config", "no configuration of the pod network", findCNIConfig,
			slices.Concat([]string{"node-not-ready", "pod-network"}, dnsIll, podsIll), false,
		},
		{"cni-plugins", "a program of the pod network that is missing", findCNIPlugins, slices.Concat([]string{"node-not-ready"}, dnsIll, podsIll), false},
		{
			"node-network", "nodes that do not reach each other, the API servers or etcd", findNodeNetwork,
			slices.Concat([]string{"unit-etcd.service", "pod-network", "etcd-slow"}, etcdIll, apiIll, nodeIll), false,
		},
	},
	unitRules[:2],
	[]Rule{
		{
			"etcd-no-space", "etcd that accepts no writes, because its database has reached its quota", findNoSpace,
			slices.Concat(apiIll, nodeIll), false,
		},
		{"etcd-corrupt", "an etcd member whose data is not that of the others", findCorrupt, slices.Concat(etcdIll, apiIll), false},
		{"etcd-member-unknown", "etcd members that are not those of the spec", findMembership, slices.Concat(etcdIll, apiIll), false},
		{"etcd-member-down", "an etcd member that does not answer", findMembersDown, slices.Concat([]string{"etcd-no-quorum", "etcd-slow"}, apiIll), false},
		{"etcd-no-quorum", "etcd without a leader or a majority", findNoQuorum, slices.Concat([]string{"etcd-slow"}, apiIll, nodeIll), false},
		{"etcd-slow", "etcd on a disk that is too slow", findSlowEtcd, slices.Concat([]string{"leader-silent"}, apiIll), false},
	},
	unitRules[2:],
	[]Rule{
		{
			"api-server-down", "an API server that is not ready", findAPIServers,
			[]string{"api-down", "balancer-down", "leader-silent"},
			false,
		},
		{"api-down", "an API without any server that is ready", findAPIDown, slices.Concat([]string{"balancer-down", "leader-silent"}, nodeIll), false},
		{"balancer-down", "a node whose balancer leads to no API server", findBalancers, nodeIll, false},
		{"leader-silent", "a controller manager or scheduler that does not renew its lease", findLeaders, slices.Concat(nodeIll, []string{"namespace-stuck"}), false},
		{"health", "a component that runs and says that it is not healthy", findUnhealthy, nodeIll[1:], false},
		{"node-missing", "a machine that did not join, and the hop where it stops", findNodesMissing, slices.Concat(dnsIll, podsIll), false},
		{"node-not-ready", "a node that is not Ready", findNodesNotReady, slices.Concat([]string{"node-pressure"}, dnsIll, podsIll), false},
		{"node-pressure", "a node with too little disk, memory or processes", findPressure, podsIll, false},
		{"pod-network", "a pod network that is cut between nodes", findPodNetwork, slices.Concat(dnsIll, podsIll), false},
		{"proxy-rules", "a node without kube-proxy's rules", findProxyRules, slices.Concat(dnsIll, podsIll), false},
		{"image", "an image that cannot be pulled", findImages, dnsIll, false},
		{"container-config", "a container that cannot be created", findContainerConfig, dnsIll, false},
		{"crash-loop", "a container that ends again and again, and the last line of its log", findCrashLoops, dnsIll, false},
		{"pod-evicted", "pods that were evicted", findEvicted, nil, false},
		{"pod-unschedulable", "pods for which the scheduler finds no node", findUnschedulable, dnsIll, false},
		{"pod-stuck", "pods that do not start", findStuck, dnsIll, false},
		{"coredns-off", "a DNS of the cluster that is not installed, or scaled to zero", findNoDNS, []string{"dns", "webhook", "api-service"}, false},
		{"coredns", "a DNS of the cluster without pods that are ready", findCoreDNS, []string{"dns", "webhook", "api-service"}, false},
		{"dns", "names that cannot be resolved from a node", findDNS, []string{"webhook", "api-service"}, false},
		{"webhook", "a webhook that blocks the API", findWebhooks, []string{"namespace-stuck"}, false},
		{"api-service", "an API without a server behind it", findAPIServices, []string{"namespace-stuck"}, false},
		{"namespace-stuck", "a namespace that is being deleted and stays", findNamespaces, nil, false},
		{"version-skew", "a kubelet whose version does not fit the API server's", findSkew, nil, false},
		{"unit-disabled", "a unit that would not start at the next boot", findDisabled, []string{"drift"}, false},
		{"etcd-space", "etcd's database close to its quota", findLittleSpace, nil, true},
		{"certificate-expires", "certificates that expire within a week", findExpiring, nil, true},
		{"token-expired", "bootstrap tokens that have expired", findTokens, nil, true},
		{"drift", "differences from the spec that a plan shows", findDrift, nil, true},
		{"cordoned", "nodes that were cordoned", findCordoned, nil, true},
		{"swap", "machines with swap", findSwap, nil, true},
		{"reboot", "machines that have just started", findReboots, nil, true},
	},
)
