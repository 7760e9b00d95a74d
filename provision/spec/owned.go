package spec

// owned has the settings of a component that a user cannot override, because the cluster would not
// start, or would contradict the rest of the spec. The values are remedies.
type owned struct {
	flags  map[string]string
	config map[string]string // fields of the component's configuration, dotted
}

// Remedies that several flags share.
const (
	leaveFiles   = "remove it: slipway writes this file and renews its contents"
	leaveWiring  = "remove it: slipway connects the components"
	usePods      = "set spec.network.podSubnet"
	useServices  = "set spec.network.serviceSubnet"
	useDNSDomain = "set spec.network.dnsDomain"
	useProxyMode = "set spec.network.proxyMode, or proxyMode of a pool"
	useLabels    = "set spec.nodePools[].labels"
	useTaints    = "set spec.nodePools[].taints"
	usePKI       = "set spec.pki.csrValidity"
	useCgroups   = "set spec.allowCgroupV1"
	useJWT       = "set spec.kubernetes.apiServer.authentication.jwt"
	useConfig    = "use configPatch, which is merged into the file"
)

var ownedByAPIServer = owned{flags: table(
	rule{leaveFiles, []string{
		"tls-cert-file", "tls-private-key-file", "cert-dir", "client-ca-file", "kubelet-certificate-authority",
		"kubelet-client-certificate", "kubelet-client-key", "etcd-cafile", "etcd-certfile", "etcd-keyfile",
		"proxy-client-cert-file", "proxy-client-key-file", "requestheader-client-ca-file", "service-account-key-file",
		"service-account-signing-key-file", "encryption-provider-config", "authentication-config",
		"admission-control-config-file",
	}},
	rule{leaveWiring, []string{
		"etcd-servers", "secure-port", "advertise-address", "authorization-mode", "anonymous-auth",
		"authorization-config", "enable-bootstrap-token-auth", "requestheader-allowed-names",
	}},
	rule{useServices, []string{"service-cluster-ip-range"}},
	rule{useJWT, []string{
		"oidc-issuer-url", "oidc-client-id", "oidc-ca-file", "oidc-username-claim", "oidc-username-prefix", "oidc-groups-claim",
		"oidc-groups-prefix", "oidc-signing-algs", "oidc-required-claim",
	}},
	rule{"list plugins in enable-admission-plugins and disable-admission-plugins", []string{"admission-control"}},
)}

var ownedByControllerManager = owned{flags: table(
	rule{leaveFiles, []string{
		"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "client-ca-file", "root-ca-file",
		"cluster-signing-cert-file", "cluster-signing-key-file", "service-account-private-key-file", "tls-cert-file",
		"tls-private-key-file", "cert-dir", "requestheader-client-ca-file",
	}},
	rule{leaveWiring, []string{"master", "leader-elect", "use-service-account-credentials"}},
	rule{usePKI, []string{"cluster-signing-duration"}},
	rule{usePods, []string{"cluster-cidr", "allocate-node-cidrs", "node-cidr-mask-size", "node-cidr-mask-size-ipv4"}},
	rule{useServices, []string{"service-cluster-ip-range"}},
)}

var ownedByScheduler = owned{
	flags: table(
		rule{leaveFiles, []string{
			"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "client-ca-file", "tls-cert-file",
			"tls-private-key-file", "cert-dir", "requestheader-client-ca-file",
		}},
		rule{leaveWiring, []string{"master", "leader-elect"}},
		rule{useConfig, []string{"config"}},
	),
	config: table(
		rule{"remove it: slipway sets it", []string{"apiVersion", "kind"}},
		rule{leaveFiles, []string{"clientConnection.kubeconfig"}},
	),
}

var ownedByKubelet = owned{
	flags: table(
		rule{leaveFiles, []string{
			"kubeconfig", "bootstrap-kubeconfig", "client-ca-file", "tls-cert-file", "tls-private-key-file", "cert-dir",
			"rotate-certificates", "rotate-server-certificates",
		}},
		rule{leaveWiring, []string{
			"cgroup-driver", "container-runtime-endpoint", "root-dir", "hostname-override", "node-ip", "anonymous-auth",
			"authentication-token-webhook", "authorization-mode", "port", "register-node",
		}},
		rule{useCgroups, []string{"fail-cgroupv1"}},
		rule{useLabels, []string{"node-labels"}},
		rule{useTaints, []string{"register-with-taints"}},
		rule{useServices, []string{"cluster-dns"}},
		rule{useDNSDomain, []string{"cluster-domain"}},
		rule{useConfig, []string{"config", "config-dir"}},
	),
	config: table(
		rule{"remove it: slipway sets it", []string{"apiVersion", "kind"}},
		rule{leaveFiles, []string{
			"authentication.x509.clientCAFile", "tlsCertFile", "tlsPrivateKeyFile", "rotateCertificates", "serverTLSBootstrap",
		}},
		rule{leaveWiring, []string{
			"cgroupDriver", "containerRuntimeEndpoint", "authentication.anonymous.enabled", "authentication.webhook.enabled",
			"authorization.mode", "port", "registerNode",
		}},
		rule{useCgroups, []string{"failCgroupV1"}},
		rule{useTaints, []string{"registerWithTaints"}},
		rule{useServices, []string{"clusterDNS"}},
		rule{useDNSDomain, []string{"clusterDomain"}},
	),
}

var ownedByProxy = owned{
	flags: table(
		rule{leaveFiles, []string{"kubeconfig"}},
		rule{leaveWiring, []string{"master", "hostname-override"}},
		rule{usePods, []string{"cluster-cidr"}},
		rule{useProxyMode, []string{"proxy-mode"}},
		rule{useConfig, []string{"config"}},
	),
	config: table(
		rule{"remove it: slipway sets it", []string{"apiVersion", "kind"}},
		rule{leaveFiles, []string{"clientConnection.kubeconfig"}},
		rule{leaveWiring, []string{"hostnameOverride"}},
		rule{usePods, []string{"clusterCIDR"}},
		rule{useProxyMode, []string{"mode"}},
	),
}

var ownedByEtcd = owned{flags: table(
	rule{leaveFiles, []string{
		"config-file", "cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file",
		"peer-trusted-ca-file", "auto-tls", "peer-auto-tls", "client-cert-auth", "peer-client-cert-auth",
	}},
	rule{"remove it: the data is always in /var/lib/etcd", []string{"data-dir", "wal-dir"}},
	rule{leaveWiring, []string{
		"name", "initial-cluster", "initial-cluster-state", "initial-cluster-token", "initial-advertise-peer-urls",
		"advertise-client-urls", "listen-client-urls", "listen-peer-urls", "force-new-cluster",
		"discovery", "discovery-srv",
	}},
)}

// rule is a remedy with the names that it applies to.
type rule struct {
	remedy string
	names  []string
}

func table(rules ...rule) map[string]string {
	t := map[string]string{}
	for _, r := range rules {
		for _, name := range r.names {
			t[name] = r.remedy
		}
	}
	return t
}
