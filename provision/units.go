package provision

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
	apiPort      = 6443
	balancerPort = 6444
	etcdClient   = 2379
	etcdPeer     = 2380
)

const (
	kubernetesDir = "/etc/kubernetes"
	pkiDir        = kubernetesDir + "/pki"
	caFile        = pkiDir + "/ca.crt"
	etcdCAFile    = pkiDir + "/etcd/ca.crt"
	searchPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// unitRow is one systemd service of the stack.
type unitRow struct {
	name string
	on   func(node) bool
	unit func(node) templates.Unit
	// programs and files are what the service reads at its start and does not reload, or not soon: a change restarts it.
	// Certificates with their keys are reloaded by all of them, and the authorities of clients by all but etcd. Not
	// reloaded are etcd's authorities, the keys of service accounts, and what the controller manager publishes; a client
	// looks at its authority again after 5 min at the earliest (client-go 0.36, ClientsAllowCARotation), flanneld never.
	programs, files []string
	// partly are files that it reloads but for a part, which is given here: that part is read when it starts.
	partly map[string]func() []byte
	// issuers are authorities and keys with which others make what the service holds in memory: connections with a client
	// certificate, tokens of pods. It is restarted where another takes the place of one, since it would only be looked
	// for after minutes; not where a certificate is renewed. API servers show certificates to kubelets, and those of the
	// front proxy to extension API servers.
	issuers []string
	// needs is another unit that has to be there while this one stops: it is stopped before both are restarted.
	// (systemd stops units in the reverse of their order, but not those that it restarts.)
	needs string
	// health is a URL that answers 200 once the service does its work, for those that cannot tell systemd so themselves
	// (Type=simple is active as soon as it has begun).
	health string
	// maxAge is how long it may run before the next apply restarts it; 0 is for ever.
	maxAge time.Duration
	// late services have nothing to do before the API answers. On a first start they begin then, so that they take no
	// processor time from what everybody waits for, and do not sit in a back-off when it is there.
	late bool
	// disturbs says what a restart means for what runs in the cluster; alone what it means where this is the only control
	// plane, and ends what it means that it stops for good, if that is something else.
	disturbs, alone, ends string
}

// loopbackAge is how long a server may run that makes, when it starts, the certificate with which it speaks to itself, and
// never another (kubernetes#86552). That is valid for a year before v1.36, and for 1096 days since (k8s.io/apiserver,
// serving_with_loopback.go); the shorter one counts for all. Whoever applies once in three months never meets its end.
const loopbackAge = 274 * 24 * time.Hour

func everywhere(node) bool { return true }

const noAPI = "the API does not answer meanwhile, since this is the only control plane; pods go on running"

// unitTable is the stack. The order is for readers: systemd starts all at once, along After.
var unitTable = []unitRow{
	{
		name: "containerd.service", on: everywhere, unit: containerdUnit,
		programs: []string{"containerd"}, files: []string{"/etc/containerd/config.toml"},
		disturbs: "containers go on running; pods are started and stopped a moment later",
	},
	{
		name: "slipway-balancer.service", on: everywhere, unit: balancerUnit, programs: []string{"slipway"},
		health:   "https://127.0.0.1:6444/readyz", // of any API server, through it
		disturbs: "connections through it to the API break and are made anew; pods go on running",
	},
	{
		name: etcdService, on: node.controlPlane, unit: etcdUnit, programs: []string{"etcd"}, files: []string{etcdCAFile},
		disturbs: "the other members keep the quorum; pods go on running", alone: noAPI,
	},
	{
		name: "kube-apiserver.service", on: node.controlPlane, unit: apiServerUnit, programs: []string{"kube-apiserver"},
		files:    []string{auditPolicyFile, admissionFile, pkiDir + "/sa.pub", pkiDir + "/sa.key", etcdCAFile, caFile},
		partly:   map[string]func() []byte{authenticationFile: templates.Anonymous}, // it refuses to reload another (KEP-4633)
		issuers:  []string{certs.KubernetesCA, certs.FrontProxyCA},
		needs:    "etcd.service", // or it waits for what it has asked until systemd kills it
		health:   "https://127.0.0.1:6443/readyz",
		maxAge:   loopbackAge,
		disturbs: "clients go on with the other API servers; pods go on running", alone: noAPI,
	},
	{
		name: "kube-controller-manager.service", on: node.controlPlane, unit: controllerManagerUnit,
		programs: []string{"kube-controller-manager"},
		files:    []string{kubernetesDir + "/controller-manager.kubeconfig", pkiDir + "/sa.key", certs.RootCAFile, caFile},
		issuers:  []string{certs.KubernetesCA},
		health:   "https://127.0.0.1:10257/healthz",
		maxAge:   loopbackAge,
		disturbs: "another control plane takes the lead; pods go on running", alone: "controllers pause for a moment; pods go on running",
	},
	{
		name: "kube-scheduler.service", on: node.controlPlane, unit: schedulerUnit, programs: []string{"kube-scheduler"},
		files: []string{schedulerFile, kubernetesDir + "/scheduler.kubeconfig", caFile}, issuers: []string{certs.KubernetesCA},
		health:   "https://127.0.0.1:10259/healthz",
		maxAge:   loopbackAge,
		disturbs: "another control plane takes the lead; pods go on running", alone: "new pods wait for a moment; pods go on running",
	},
	{
		name: kubeletService, on: everywhere, unit: kubeletUnit, programs: []string{"kubelet"},
		files: []string{kubeletFile, kubernetesDir + "/kubelet.conf", caFile}, issuers: []string{certs.KubernetesCA, certs.ServiceAccounts},
		health:   "http://127.0.0.1:10248/healthz",
		disturbs: "pods go on running",
	},
	{
		name: "kube-proxy.service", on: everywhere, unit: proxyUnit, programs: []string{"kube-proxy"},
		files: []string{proxyFile, kubernetesDir + "/kube-proxy.conf", caFile}, issuers: []string{certs.KubernetesCA},
		health: "http://127.0.0.1:10256/healthz", late: true,
		disturbs: "connections go on; changes of Services arrive a moment later",
	},
	{
		name: flannelService, on: node.flannel, unit: flannelUnit, programs: []string{"flanneld"},
		files: []string{flannelFile, kubernetesDir + "/flannel.conf", caFile}, issuers: []string{certs.KubernetesCA}, late: true,
		disturbs: "connections go on; routes to new nodes arrive a moment later", ends: noNetwork,
	},
	{
		name: imagesService, on: everywhere, unit: imagesUnit, programs: []string{"image/pause", "image/coredns"},
	},
}

func containerdUnit(n node) templates.Unit {
	return templates.Unit{
		Description: "containerd, the container runtime", Type: "notify",
		Exec: n.path("containerd"), Args: []string{"--config=/etc/containerd/config.toml"},
		Env:      []string{"PATH=" + n.binDir("containerd") + ":" + n.binDir("runc") + ":" + searchPath},
		Delegate: true, KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func balancerUnit(n node) templates.Unit {
	return templates.Unit{
		Description: "slipway balancer, this node's way to the API servers", Type: "notify",
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("slipway"), Args: []string{"balancer", "--config=" + balancerFile},
		OOMScoreAdjust: n.protect(-998),
	}
}

func etcdUnit(n node) templates.Unit {
	var members []string
	for _, m := range n.controlPlanes() {
		members = append(members, m.Name+"="+peerURL(m))
	}
	client := "https://" + netip.AddrPortFrom(n.machine.Address, etcdClient).String()
	peer := peerURL(n.machine)
	args := map[string]string{
		"name": n.Name, "data-dir": "/var/lib/etcd",
		"listen-client-urls":    client + ",https://127.0.0.1:" + strconv.Itoa(etcdClient),
		"advertise-client-urls": client,
		"listen-peer-urls":      peer, "initial-advertise-peer-urls": peer,
		"initial-cluster":       strings.Join(members, ","),
		"initial-cluster-state": "new", "initial-cluster-token": n.etcdToken(),
		"listen-metrics-urls": "http://127.0.0.1:2381",
		"cert-file":           pkiDir + "/etcd/server.crt", "key-file": pkiDir + "/etcd/server.key",
		"trusted-ca-file": pkiDir + "/etcd/ca.crt", "client-cert-auth": "true",
		"peer-cert-file": pkiDir + "/etcd/peer.crt", "peer-key-file": pkiDir + "/etcd/peer.key",
		"peer-trusted-ca-file": pkiDir + "/etcd/ca.crt", "peer-client-cert-auth": "true",
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
func (n node) etcdToken() string {
	if n.Generation == "" {
		return n.Cluster.Metadata.Name
	}
	return n.Cluster.Metadata.Name + "-" + n.Generation
}

func peerURL(m spec.Machine) string {
	return "https://" + netip.AddrPortFrom(m.Address, etcdPeer).String()
}

func apiServerUnit(n node) templates.Unit {
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"advertise-address": n.address(), "secure-port": strconv.Itoa(apiPort),
		"allow-privileged":   "true",
		"authorization-mode": "Node,RBAC", "authentication-config": authenticationFile,
		"client-ca-file":                pkiDir + "/ca.crt",
		"admission-control-config-file": admissionFile,
		"enable-bootstrap-token-auth":   "true",
		"etcd-servers":                  "https://127.0.0.1:" + strconv.Itoa(etcdClient),
		"etcd-cafile":                   pkiDir + "/etcd/ca.crt",
		"etcd-certfile":                 pkiDir + "/apiserver-etcd-client.crt", "etcd-keyfile": pkiDir + "/apiserver-etcd-client.key",
		"kubelet-certificate-authority":   pkiDir + "/ca.crt",
		"kubelet-client-certificate":      pkiDir + "/apiserver-kubelet-client.crt",
		"kubelet-client-key":              pkiDir + "/apiserver-kubelet-client.key",
		"kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
		"proxy-client-cert-file":          pkiDir + "/front-proxy-client.crt", "proxy-client-key-file": pkiDir + "/front-proxy-client.key",
		"requestheader-client-ca-file": pkiDir + "/front-proxy-ca.crt", "requestheader-allowed-names": "front-proxy-client",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
		"requestheader-username-headers":   "X-Remote-User",
		"service-account-issuer":           n.Cluster.ServiceAccountIssuer(),
		"service-account-key-file":         pkiDir + "/sa.pub",
		"service-account-signing-key-file": pkiDir + "/sa.key",
		// Tokens of pods end when they say, after an hour, instead of a year: all clients read theirs anew by now.
		"service-account-extend-token-expiration": "false",
		"service-cluster-ip-range":                network.ServiceSubnet,
		"tls-cert-file":                           pkiDir + "/apiserver.crt", "tls-private-key-file": pkiDir + "/apiserver.key",
		"tls-min-version":            "VersionTLS12",
		"encryption-provider-config": encryptionFile, "encryption-provider-config-automatic-reload": "true",
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

func controllerManagerUnit(n node) templates.Unit {
	conf := kubernetesDir + "/controller-manager.kubeconfig"
	network := n.Cluster.Spec.Network
	args := map[string]string{
		"kubeconfig": conf, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"allocate-node-cidrs": "true", "cluster-cidr": network.PodSubnet, "service-cluster-ip-range": network.ServiceSubnet,
		"bind-address": "127.0.0.1", "cluster-name": n.Cluster.Metadata.Name,
		"client-ca-file": pkiDir + "/ca.crt", "requestheader-client-ca-file": pkiDir + "/front-proxy-ca.crt",
		"controllers":  "*,bootstrapsigner,tokencleaner",
		"leader-elect": "true",
		// The default of 20 requests a second makes a new cluster wait 10 s for its pod networks, while some 40
		// controllers fetch their tokens one after another.
		"kube-api-qps": "100", "kube-api-burst": "200",
		"profiling":                        "false",
		"root-ca-file":                     certs.RootCAFile,
		"service-account-private-key-file": pkiDir + "/sa.key", "use-service-account-credentials": "true",
		"tls-cert-file": pkiDir + "/controller-manager-server.crt", "tls-private-key-file": pkiDir + "/controller-manager-server.key",
		"tls-min-version": "VersionTLS12",
	}
	if n.PKI.Signs(certs.KubernetesCA) { // without these, nobody signs CertificateSigningRequests
		args["cluster-signing-cert-file"], args["cluster-signing-key-file"] = certs.SignerFile, pkiDir+"/ca.key"
		args["cluster-signing-duration"] = n.Cluster.Spec.PKI.CSRDuration().String()
	}
	return templates.Unit{
		Description: "kube-controller-manager", Type: "simple", After: []string{"kube-apiserver.service"},
		Slice: stackSlice, Sandbox: templates.Sealed,
		Exec: n.path("kube-controller-manager"), Args: flags(args, n.Cluster.Spec.Kubernetes.ControllerManager.ExtraArgs),
		OOMScoreAdjust: n.protect(-997),
	}
}

func schedulerUnit(n node) templates.Unit {
	conf := kubernetesDir + "/scheduler.kubeconfig"
	args := map[string]string{
		"config": schedulerFile, "authentication-kubeconfig": conf, "authorization-kubeconfig": conf,
		"bind-address": "127.0.0.1", "client-ca-file": pkiDir + "/ca.crt",
		"requestheader-client-ca-file": pkiDir + "/front-proxy-ca.crt",
		"tls-cert-file":                pkiDir + "/scheduler-server.crt", "tls-private-key-file": pkiDir + "/scheduler-server.key",
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

func kubeletUnit(n node) templates.Unit {
	args := map[string]string{
		"config": kubeletFile, "kubeconfig": kubernetesDir + "/kubelet.conf",
		"hostname-override": n.Name, "node-ip": n.address(),
	}
	return templates.Unit{
		// No pod begins before the images of the bundle are there: nobody else has them.
		Description: "kubelet", Type: "notify", After: []string{"containerd.service", imagesService, "slipway-balancer.service"},
		Exec: n.path("kubelet"), Args: flags(args, n.Cluster.Spec.Kubernetes.Kubelet.ExtraArgs),
		KillProcess: true, OOMScoreAdjust: n.protect(-999),
	}
}

func proxyUnit(n node) templates.Unit {
	return templates.Unit{
		Description: "kube-proxy", Type: "simple", After: []string{"slipway-balancer.service"},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Exec: n.path("kube-proxy"), Args: flags(map[string]string{"config": proxyFile}, n.Cluster.Spec.Kubernetes.Proxy.ExtraArgs),
		OOMScoreAdjust: n.protect(-999),
	}
}

func flannelUnit(n node) templates.Unit {
	args := map[string]string{
		"kube-subnet-mgr": "true", "kubeconfig-file": kubernetesDir + "/flannel.conf",
		"net-config-path": flannelFile, "iface": n.address(), "ip-masq": "true",
	}
	// Without its node's network flanneld ends, again and again: the node is registered, and given it, meanwhile.
	wait := []string{
		stableSlipway, "wait-for-pod-cidr", quote("--kubeconfig=" + kubernetesDir + "/flannel.conf"), quote("--node=" + n.Name),
	}
	return templates.Unit{
		Description: "flanneld, the pod network", Type: "notify", After: []string{"slipway-balancer.service"},
		Slice: stackSlice, Sandbox: templates.Fenced,
		Pre:  []string{strings.Join(wait, " ")},
		Exec: n.path("flanneld"), Args: flags(args, nil), Env: []string{"NODE_NAME=" + n.Name},
		OOMScoreAdjust: n.protect(-998),
	}
}

func imagesUnit(n node) templates.Unit {
	// Pinned, or the kubelet's garbage collection would remove what cannot be pulled again.
	load := n.path("ctr") + " --namespace=k8s.io images import --label=io.cri-containerd.pinned=pinned "
	return templates.Unit{
		Description: "Images that come with the bundle", Type: "oneshot", After: []string{"containerd.service"},
		Pre:   []string{load + n.path("image/pause")},
		Exec:  load + n.path("image/coredns"),
		Stamp: imagesService,
	}
}

func (n node) binDir(artifact string) string {
	p := n.path(artifact)
	return p[:strings.LastIndexByte(p, '/')]
}

// protect gives an OOM score adjustment where the host may grant one.
func (n node) protect(score int) int {
	if !n.facts.SysResource {
		return 0
	}
	return score
}

// imagesService imports the bundle's images; a restart imports them again.
const imagesService = "slipway-images.service"

// balancerService is a node's way to the API servers.
const balancerService = "slipway-balancer.service"

// stackSlice is the slice of what is the cluster's own and starts no containers, stackSliceFile its unit file. The kubelet
// and containerd stay outside: what they have started outlives them, in the control groups that they were in.
const (
	stackSlice     = "slipway.slice"
	stackSliceFile = unitDir + stackSlice
)

// etcdService is a control plane's member of etcd.
const etcdService = "etcd.service"

// kubeletService is what makes a machine a node.
const kubeletService = "kubelet.service"

// isLate says whether a unit of the table is late.
func isLate(name string) bool {
	return slices.ContainsFunc(unitTable, func(row unitRow) bool { return row.name == name && row.late })
}
