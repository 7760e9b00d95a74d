package stack

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// Ports, as kubeadm has them; the balancer's is ours.
const (
	APIPort        = 6443
	BalancerPort   = 6444
	EtcdClientPort = 2379
	etcdPeer       = 2380
)

// Directories and files of the PKI, as kubeadm has them.
const (
	KubernetesDir = "/etc/kubernetes"
	PKIDir        = KubernetesDir + "/pki"
	CAFile        = PKIDir + "/ca.crt"
	etcdCAFile    = PKIDir + "/etcd/ca.crt"
	searchPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// UnitRow is one systemd service of the stack.
type UnitRow struct {
	Name string
	on   func(Node) bool
	unit func(Node) templates.Unit
	// programs and files are what the service reads at its start and does not reload, or not soon: a change restarts it.
	// Certificates with their keys are reloaded by all of them, and the authorities of clients by all but etcd. Not
	// reloaded are etcd's authorities, the keys of service accounts, and what the controller manager publishes; a client
	// looks at its authority again after 5 min at the earliest (client-go 0.36, ClientsAllowCARotation), flanneld never.
	programs, files []string
	// Partly are files that it reloads but for a part, which is given here: that part is read when it starts.
	Partly map[string]func() []byte
	// issuers are authorities and keys with which others make what the service holds in memory: connections with a client
	// certificate, tokens of pods. It is restarted where another takes the place of one, since it would only be looked
	// for after minutes; not where a certificate is renewed. API servers show certificates to kubelets, and those of the
	// front proxy to extension API servers.
	issuers []string
	// Needs is another unit that has to be there while this one stops: it is stopped before both are restarted.
	// (systemd stops units in the reverse of their order, but not those that it restarts.)
	Needs string
	// Health is a URL that answers 200 once the service does its work, for those that cannot tell systemd so themselves
	// (Type=simple is active as soon as it has begun).
	Health string
	// maxAge is how long it may run before the next apply restarts it; 0 is for ever.
	maxAge time.Duration
	// late services have nothing to do before the API answers. On a first start they begin then, so that they take no
	// processor time from what everybody waits for, and do not sit in a back-off when it is there.
	late bool
	// Disturbs says what a restart means for what runs in the cluster; Alone what it means where this is the only control
	// plane, and Ends what it means that it stops for good, if that is something else.
	Disturbs, Alone, Ends string
}

// LoopbackAge is how long a server may run that makes, when it starts, the certificate with which it speaks to itself, and
// never another (kubernetes#86552). That is valid for a year before v1.36, and for 1096 days since (k8s.io/apiserver,
// serving_with_loopback.go); the shorter one counts for all. Whoever applies once in three months never meets its end.
const LoopbackAge = 274 * 24 * time.Hour

// Everywhere is the condition of what every node has.
func Everywhere(Node) bool { return true }

const noAPI = "the API does not answer meanwhile, since this is the only control plane; pods go on running"

// Units is the stack. The order is for readers: systemd starts all at once, along After.
var Units = []UnitRow{
	{
		Name: "containerd.service", on: Everywhere, unit: containerdUnit,
		programs: []string{"containerd"}, files: []string{"/etc/containerd/config.toml"},
		Disturbs: "containers go on running; pods are started and stopped a moment later",
	},
	{
		Name: "slipway-balancer.service", on: Everywhere, unit: balancerUnit, programs: []string{"slipway"},
		Health:   "https://127.0.0.1:6444/readyz", // of any API server, through it
		Disturbs: "connections through it to the API break and are made anew; pods go on running",
	},
	{
		Name: EtcdService, on: Node.ControlPlane, unit: etcdUnit, programs: []string{"etcd"}, files: []string{etcdCAFile},
		Disturbs: "the other members keep the quorum; pods go on running", Alone: noAPI,
	},
	{
		Name: "kube-apiserver.service", on: Node.ControlPlane, unit: apiServerUnit, programs: []string{"kube-apiserver"},
		files:    []string{auditPolicyFile, admissionFile, PKIDir + "/sa.pub", PKIDir + "/sa.key", etcdCAFile, CAFile},
		Partly:   map[string]func() []byte{AuthenticationFile: templates.Anonymous}, // it refuses to reload another (KEP-4633)
		issuers:  []string{certs.KubernetesCA, certs.FrontProxyCA},
		Needs:    "etcd.service", // or it waits for what it has asked until systemd kills it
		Health:   "https://127.0.0.1:6443/readyz",
		maxAge:   LoopbackAge,
		Disturbs: "clients go on with the other API servers; pods go on running", Alone: noAPI,
	},
	{
		Name: "kube-controller-manager.service", on: Node.ControlPlane, unit: controllerManagerUnit,
		programs: []string{"kube-controller-manager"},
		files:    []string{KubernetesDir + "/controller-manager.kubeconfig", PKIDir + "/sa.key", certs.RootCAFile, CAFile},
		issuers:  []string{certs.KubernetesCA},
		Health:   "https://127.0.0.1:10257/healthz",
		maxAge:   LoopbackAge,
		Disturbs: "another control plane takes the lead; pods go on running", Alone: "controllers pause for a moment; pods go on running",
	},
	{
		Name: "kube-scheduler.service", on: Node.ControlPlane, unit: schedulerUnit, programs: []string{"kube-scheduler"},
		files: []string{schedulerFile, KubernetesDir + "/scheduler.kubeconfig", CAFile}, issuers: []string{certs.KubernetesCA},
		Health:   "https://127.0.0.1:10259/healthz",
		maxAge:   LoopbackAge,
		Disturbs: "another control plane takes the lead; pods go on running", Alone: "new pods wait for a moment; pods go on running",
	},
	{
		Name: KubeletService, on: Everywhere, unit: kubeletUnit, programs: []string{"kubelet"},
		files: []string{KubeletFile, KubernetesDir + "/kubelet.conf", CAFile}, issuers: []string{certs.KubernetesCA, certs.ServiceAccounts},
		Health:   "http://127.0.0.1:10248/healthz",
		Disturbs: "pods go on running",
	},
	{
		Name: "kube-proxy.service", on: Everywhere, unit: proxyUnit, programs: []string{"kube-proxy"},
		files: []string{proxyFile, KubernetesDir + "/kube-proxy.conf", CAFile}, issuers: []string{certs.KubernetesCA},
		Health: "http://127.0.0.1:10256/healthz", late: true,
		Disturbs: "connections go on; changes of Services arrive a moment later",
	},
	{
		Name: FlannelService, on: Node.flannel, unit: flannelUnit, programs: []string{"flanneld"},
		files: []string{flannelFile, KubernetesDir + "/flannel.conf", CAFile}, issuers: []string{certs.KubernetesCA}, late: true,
		Disturbs: "connections go on; routes to new nodes arrive a moment later", Ends: NoNetwork,
	},
	{
		Name: ImagesService, on: Everywhere, unit: imagesUnit, programs: []string{"image/pause", "image/coredns"},
	},
}

func containerdUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "containerd, the container runtime", Type: "notify",
		Exec: n.path("containerd"), Args: []string{"--config=/etc/containerd/config.toml"},
		Env:      []string{"PATH=" + n.binDir("containerd") + ":" + n.binDir("runc") + ":" + searchPath},
		Delegate: true, KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func balancerUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "slipway balancer, this node's way to the API servers", Type: "notify",
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("slipway"), Args: []string{"balancer", "--config=" + BalancerFile},
		OOMScoreAdjust: n.protect(-998),
	}
}

func etcdUnit(n Node) templates.Unit {
	var members []string
	for _, m := range n.ControlPlanes() {
		members = append(members, m.Name+"="+peerURL(m))
	}
	client := "https://" + netip.AddrPortFrom(n.machine.Address, EtcdClientPort).String()
	peer := peerURL(n.machine)
	args := map[string]string{
		"name": n.Name, "data-dir": "/var/lib/etcd",
		"listen-client-urls":    client + ",https://127.0.0.1:" + strconv.Itoa(EtcdClientPort),
		"advertise-client-urls": client,
		"listen-peer-urls":      peer, "initial-advertise-peer-urls": peer,
		"initial-cluster":       strings.Join(members, ","),
		"initial-cluster-state": "new", "initial-cluster-token": n.etcdToken(),
		"listen-metrics-urls": "http://127.0.0.1:2381",
		"cert-file":           PKIDir + "/etcd/server.crt", "key-file": PKIDir + "/etcd/server.key",
		"trusted-ca-file": PKIDir + "/etcd/ca.crt", "client-cert-auth": "true",
		"peer-cert-file": PKIDir + "/etcd/peer.crt", "peer-key-file": PKIDir + "/etcd/peer.key",
		"peer-trusted-ca-file": PKIDir + "/etcd/ca.crt", "peer-client-cert-auth": "true",
		"tls-min-version":                "TLS1.2",
		"feature-gates":                  "InitialCorruptCheck=true",
		"watch-progress-notify-interval": "5s",
		// etcd takes no write beyond it until somebody has made room: the most that its authors recommend, not its 2 GiB.
		"quota-backend-bytes": strconv.FormatInt(8<<30, 10),
	}
	return templates.Unit{
		Description: "etcd, the cluster's store", Type: "notify",
		Slice: stackSlice, Sandbox: templates.Sealed, User: n.etcdUser(), State: "etcd", Logs: n.etcdLogs(),
		Exec: n.path("etcd"), Args: flags(args, n.Cluster.Spec.Etcd.ExtraArgs),
		OOMScoreAdjust: n.protect(-999),
	}
}

// etcdToken goes into the IDs of etcd's cluster and members, which take no message of another cluster.
func (n Node) etcdToken() string {
	if n.Generation == "" {
		return n.Cluster.Metadata.Name
	}
	return n.Cluster.Metadata.Name + "-" + n.Generation
}

func peerURL(m spec.Machine) string {
	return "https://" + netip.AddrPortFrom(m.Address, etcdPeer).String()
}

func apiServerUnit(n Node) templates.Unit {
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"advertise-address": n.address(), "secure-port": strconv.Itoa(APIPort),
		"allow-privileged":   "true",
		"authorization-mode": "Node,RBAC", "authentication-config": AuthenticationFile,
		"client-ca-file":                PKIDir + "/ca.crt",
		"admission-control-config-file": admissionFile,
		"enable-bootstrap-token-auth":   "true",
		"etcd-servers":                  "https://127.0.0.1:" + strconv.Itoa(EtcdClientPort),
		"etcd-cafile":                   PKIDir + "/etcd/ca.crt",
		"etcd-certfile":                 PKIDir + "/apiserver-etcd-client.crt", "etcd-keyfile": PKIDir + "/apiserver-etcd-client.key",
		"kubelet-certificate-authority":   PKIDir + "/ca.crt",
		"kubelet-client-certificate":      PKIDir + "/apiserver-kubelet-client.crt",
		"kubelet-client-key":              PKIDir + "/apiserver-kubelet-client.key",
		"kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file":          PKIDir + "/front-proxy-client.crt", "proxy-client-key-file": PKIDir + "/front-proxy-client.key",
		"requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt", "requestheader-allowed-names": "front-proxy-client",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
		"requestheader-username-headers":   "X-Remote-User",
		"service-account-issuer":           n.Cluster.ServiceAccountIssuer(),
		"service-account-key-file":         PKIDir + "/sa.pub",
		"service-account-signing-key-file": PKIDir + "/sa.key",
		// Tokens of pods end when they say, after an hour, instead of a year: all clients read theirs anew by now.
		"service-account-extend-token-expiration": "false",
		"service-cluster-ip-range":                network.ServiceSubnet,
		"tls-cert-file":                           PKIDir + "/apiserver.crt", "tls-private-key-file": PKIDir + "/apiserver.key",
		"tls-min-version":            "VersionTLS12",
		"encryption-provider-config": EncryptionFile, "encryption-provider-config-automatic-reload": "true",
		"audit-policy-file": auditPolicyFile, "audit-log-path": "/var/log/kubernetes/audit.log",
		"audit-log-maxage": "30", "audit-log-maxbackup": "10", "audit-log-maxsize": "100",
		"profiling": "false",
		// A restart that nobody notices: for 3 s /readyz fails while requests are served, and balancers, which ask every
		// second, send new ones elsewhere. Then watches are ended; else they would hold the server for 60 s.
		"shutdown-delay-duration": "3s", "shutdown-watch-termination-grace-period": "5s",
	}
	return templates.Unit{
		Description: "kube-apiserver", Type: "notify", After: []string{"etcd.service"},
		Slice: stackSlice, Sandbox: templates.Sealed, Logs: "kubernetes",
		Exec: n.path("kube-apiserver"), Args: flags(args, withAdmission(n.Cluster.Spec.Kubernetes.APIServer.ExtraArgs)),
		OOMScoreAdjust: n.protect(-997),
	}
}

func controllerManagerUnit(n Node) templates.Unit {
	conf := KubernetesDir + "/controller-manager.kubeconfig"
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"kubeconfig": conf, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"allocate-node-cidrs": "true", "cluster-cidr": network.PodSubnet, "service-cluster-ip-range": network.ServiceSubnet,
		"bind-address": "127.0.0.1", "cluster-name": n.Cluster.Metadata.Name,
		"client-ca-file": PKIDir + "/ca.crt", "requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt",
		"controllers":  "*,bootstrapsigner,tokencleaner",
		"leader-elect": "true",
		// The default of 20 requests a second makes a new cluster wait 10 s for its pod networks, while some 40
		// controllers fetch their tokens one after another.
		"kube-api-qps": "100", "kube-api-burst": "200",
		"profiling":                        "false",
		"root-ca-file":                     certs.RootCAFile,
		"service-account-private-key-file": PKIDir + "/sa.key", "use-service-account-credentials": "true",
		"tls-cert-file": PKIDir + "/controller-manager-server.crt", "tls-private-key-file": PKIDir + "/controller-manager-server.key",
		"tls-min-version": "VersionTLS12",
	}
	if n.PKI.Signs(certs.KubernetesCA) { // without these, nobody signs CertificateSigningRequests
		args["cluster-signing-cert-file"], args["cluster-signing-key-file"] = certs.SignerFile, PKIDir+"/ca.key"
		args["cluster-signing-duration"] = n.Cluster.Spec.PKI.CSRDuration().String()
	}
	return templates.Unit{
		Description: "kube-controller-manager", Type: "simple", After: []string{"kube-apiserver.service"},
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("kube-controller-manager"), Args: flags(args, n.Cluster.Spec.Kubernetes.ControllerManager.ExtraArgs),
		OOMScoreAdjust: n.protect(-997),
	}
}

func schedulerUnit(n Node) templates.Unit {
	conf := KubernetesDir + "/scheduler.kubeconfig"
	args := map[string]string{
		"config": schedulerFile, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"bind-address": "127.0.0.1", "client-ca-file": PKIDir + "/ca.crt",
		"requestheader-client-ca-file": PKIDir + "/front-proxy-ca.crt",
		"tls-cert-file":                PKIDir + "/scheduler-server.crt", "tls-private-key-file": PKIDir + "/scheduler-server.key",
		"tls-min-version": "VersionTLS12",
		// The configuration says so, too; auditors look at the command line.
		"profiling": "false",
	}
	return templates.Unit{
		Description: "kube-scheduler", Type: "simple", After: []string{"kube-apiserver.service"},
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("kube-scheduler"), Args: flags(args, n.Cluster.Spec.Kubernetes.Scheduler.ExtraArgs),
		OOMScoreAdjust: n.protect(-997),
	}
}

func kubeletUnit(n Node) templates.Unit {
	args := map[string]string{
		"config": KubeletFile, "kubeconfig": KubernetesDir + "/kubelet.conf",
		"hostname-override": n.Name, "node-ip": n.address(),
	}
	return templates.Unit{
		// No pod begins before the images of the bundle are there: nobody else has them.
		Description: "kubelet", Type: "notify", After: []string{"containerd.service", ImagesService, "slipway-balancer.service"},
		Exec: n.path("kubelet"), Args: flags(args, n.Cluster.Spec.Kubernetes.Kubelet.ExtraArgs),
		KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func proxyUnit(n Node) templates.Unit {
	return templates.Unit{
		Description: "kube-proxy", Type: "simple", After: []string{"slipway-balancer.service"},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Exec: n.path("kube-proxy"), Args: flags(map[string]string{"config": proxyFile}, n.Cluster.Spec.Kubernetes.Proxy.ExtraArgs),
		OOMScoreAdjust: n.protect(-999),
	}
}

func flannelUnit(n Node) templates.Unit {
	args := map[string]string{
		"kube-subnet-mgr": "true", "kubeconfig-file": KubernetesDir + "/flannel.conf",
		"net-config-path": flannelFile, "iface": n.address(), "ip-masq": "true",
	}
	// Without its node's network flanneld ends, again and again: the node is registered, and given it, meanwhile.
	wait := []string{
		StableSlipway, "wait-for-pod-cidr", quote("--kubeconfig=" + KubernetesDir + "/flannel.conf"), quote("--node=" + n.Name),
	}
	return templates.Unit{
		Description: "flanneld, the pod network", Type: "notify", After: []string{"slipway-balancer.service"},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Pre:  []string{strings.Join(wait, " ")},
		Exec: n.path("flanneld"), Args: flags(args, nil), Env: []string{"NODE_NAME=" + n.Name},
		OOMScoreAdjust: n.protect(-998),
	}
}

func imagesUnit(n Node) templates.Unit {
	// Pinned, or the kubelet's garbage collection would remove what cannot be pulled again.
	load := n.path("ctr") + " --namespace=k8s.io images import --label=io.cri-containerd.pinned=pinned "
	return templates.Unit{
		Description: "Images that come with the bundle", Type: "oneshot", After: []string{"containerd.service"},
		Pre:   []string{load + n.path("image/pause")},
		Exec:  load + n.path("image/coredns"),
		Stamp: ImagesService,
	}
}

func (n Node) binDir(artifact string) string {
	p := n.path(artifact)
	return p[:strings.LastIndexByte(p, '/')]
}

// protect gives an OOM score adjustment where the host may grant one.
func (n Node) protect(score int) int {
	if !n.facts.SysResource {
		return 0
	}
	return score
}

// ImagesService imports the bundle's images; a restart imports them again.
const ImagesService = "slipway-images.service"

// BalancerService is a node's way to the API servers.
const BalancerService = "slipway-balancer.service"

// stackSlice is the slice of what is the cluster's own and starts no containers, stackSliceFile its unit file. The kubelet
// and containerd stay outside: what they have started outlives them, in the control groups that they were in.
const (
	stackSlice     = "slipway.slice"
	stackSliceFile = UnitDir + stackSlice
)

// EtcdService is a control plane's member of etcd.
const EtcdService = "etcd.service"

// KubeletService is what makes a machine a node.
const KubeletService = "kubelet.service"

// IsLate says whether a unit of the table is late.
func IsLate(name string) bool {
	return slices.ContainsFunc(Units, func(row UnitRow) bool { return row.Name == name && row.late })
}

// FlannelService is the unit of flanneld.
const FlannelService = "flanneld.service"

// NoNetwork is what becomes of pods where flanneld stops for good.
const NoNetwork = "pods lose their network on every node until another plugin runs"
