package spec

// The comments on fields below are the descriptions in the JSON Schema and in docs/spec.md: they are written for the
// person who fills in the YAML. Enumerations, defaults and examples are in the table of constraints.go.
// A field without omitempty is required.

// APIVersion and Kind are the only values that a spec may carry.
const (
	APIVersion = "slipway.dev/v1alpha1"
	Kind       = "Cluster"
)

// Role says what a node does.
type Role string

// The roles of a node pool.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// Cluster is the whole of what the user asks for.
type Cluster struct {
	// Version of this file's format.
	APIVersion string `json:"apiVersion"`
	// What this file describes.
	Kind string `json:"kind"`
	// The name of the cluster.
	Metadata Metadata `json:"metadata"`
	// The cluster as it should be.
	Spec ClusterSpec `json:"spec"`
}

// Metadata names the cluster.
type Metadata struct {
	// Name of the cluster: a DNS label (a-z, 0-9 and dashes). It begins every node's name, <cluster>-<pool>-<n>.
	Name string `json:"name"`
	// UID of the cluster, which slipway makes at the first apply and the state keeps. Given, the spec fits no other cluster, wherever
	// its file is.
	UID string `json:"uid,omitempty"`
}

// ClusterSpec is the desired cluster; all but kubernetes.version, provider and nodePools has a default.
type ClusterSpec struct {
	// The version of Kubernetes, and what is changed of its components.
	Kubernetes Kubernetes `json:"kubernetes"`
	// Where machines come from: exactly one of local, aws and hosts.
	Provider Provider `json:"provider"`
	// Groups of like nodes. One or more control-plane nodes, an odd number of them, and any number of workers.
	NodePools []NodePool `json:"nodePools"`
	// The network of pods and services.
	Network Network `json:"network,omitempty"`
	// How clients outside the cluster reach the control plane.
	ControlPlane EndpointSpec `json:"controlPlane,omitempty"`
	// The etcd member on each control-plane node.
	Etcd Etcd `json:"etcd,omitempty"`
	// How long certificates live, what is in them and who signs them. See docs/certificates.md.
	PKI PKI `json:"pki,omitempty"`
	// The cluster-wide defaults of Pod Security admission. A namespace's own labels win.
	PodSecurity PodSecurity `json:"podSecurity,omitempty"`
	// Where the cluster's keys and logs are kept, and how they are encrypted. See docs/state.md.
	State State `json:"state,omitempty"`
	// Let kubelets start on hosts that still use cgroup v1, which Kubernetes has deprecated (KEP-4569).
	// The default is true for the local provider, whose host is not ours to choose, and false elsewhere.
	AllowCgroupV1 *bool `json:"allowCgroupV1,omitempty"`
}

// Kubernetes is the version and what is changed of its components.
type Kubernetes struct {
	// A Kubernetes release that slipway has a bundle for: `slipway version` lists them.
	Version string `json:"version"`
	// The kube-apiserver.
	APIServer APIServer `json:"apiServer,omitempty"`
	// The kube-controller-manager.
	ControllerManager Component `json:"controllerManager,omitempty"`
	// The kube-scheduler.
	Scheduler ConfigComponent `json:"scheduler,omitempty"`
	// The kubelet of every node.
	Kubelet ConfigComponent `json:"kubelet,omitempty"`
	// The kube-proxy of every node.
	Proxy ConfigComponent `json:"proxy,omitempty"`
}

// APIServer is the kube-apiserver, whose command line can be extended, its audit policy, and whom it takes.
type APIServer struct {
	// Flags without their dashes. They win over slipway's own, save for those that slipway owns, and for
	// enable-admission-plugins, which adds to them.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// What the audit log records: the rules and omitStages of a Policy (audit.k8s.io/v1), in place of slipway's own
	// policy, which records who wrote what, who read secrets, and who went into a pod (exec, attach, port-forward, proxy),
	// and no contents.
	AuditPolicy map[string]any `json:"auditPolicy,omitempty"`
	// Whom the API server takes beside those who have a certificate or a token of the cluster.
	Authentication Authentication `json:"authentication,omitempty"`
}

// Authentication is what a user can say of the API server's AuthenticationConfiguration (KEP-3331).
type Authentication struct {
	// Identity providers whose tokens (OpenID Connect) are taken: a list of JWTAuthenticator (apiserver.config.k8s.io/v1),
	// with issuer, claimMappings, claimValidationRules and userValidationRules. A change needs no restart. See
	// docs/hardening.md.
	JWT []map[string]any `json:"jwt,omitempty"`
}

// Component is a program whose command line can be extended.
type Component struct {
	// Flags without their dashes. They win over slipway's own, save for those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
}

// Etcd is the etcd member on each control-plane node.
type Etcd struct {
	// Flags without their dashes. They win over slipway's own, save for those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// More DNS names and IP addresses for the members' serving certificates.
	CertSANs []string `json:"certSANs,omitempty"`
}

// ConfigComponent is a program that also reads a component configuration file. The values of its patch are
// what encoding/json would give, except that whole numbers are int64.
type ConfigComponent struct {
	// Flags without their dashes. They win over slipway's own, save for those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// A JSON merge patch (RFC 7386) laid over the generated configuration file; null removes a field.
	ConfigPatch map[string]any `json:"configPatch,omitempty"`
}

// Provider is a union: exactly one member is set.
type Provider struct {
	// Machines made of Docker containers on this computer.
	Local *LocalProvider `json:"local,omitempty"`
	// EC2 instances on AWS. Not available yet.
	AWS *AWSProvider `json:"aws,omitempty"`
	// Machines that exist, reached over SSH. Not available yet.
	Hosts *HostsProvider `json:"hosts,omitempty"`
}

// LocalProvider makes machines out of Docker containers on this computer.
type LocalProvider struct {
	// Subnet of the Docker network. It must not meet the pod or service subnet.
	Subnet string `json:"subnet,omitempty"`
	// Port on 127.0.0.1 where the API server is published; 0, the default, picks a free one and keeps it.
	APIPort int `json:"apiPort,omitempty"`
}

// AWSProvider makes EC2 instances. Not available yet.
type AWSProvider struct {
	// The AWS region to create machines in.
	Region string `json:"region,omitempty"`
}

// HostsProvider takes machines that exist. Not available yet.
type HostsProvider struct {
	// The user to log in as: root, or one that may `sudo -n`.
	User string `json:"user,omitempty"`
	// The port of sshd on every machine.
	Port int `json:"port,omitempty"`
	// File of the private key to log in with. Without one, the SSH agent and the default keys are tried.
	IdentityFile string `json:"identityFile,omitempty"`
	// File of the machines' known host keys.
	KnownHostsFile string `json:"knownHostsFile,omitempty"`
	// Accept and record the host key of a machine that is met for the first time.
	TrustOnFirstUse bool `json:"trustOnFirstUse,omitempty"`
}

// NodePool is a group of like nodes, named "<cluster>-<pool>-<n>", n from 1.
type NodePool struct {
	// Name of the pool: a DNS label (a-z, 0-9 and dashes), part of its nodes' names.
	Name string `json:"name"`
	// What the nodes of the pool do.
	Role Role `json:"role"`
	// How many nodes to create. Not for the hosts provider, where the hosts are listed.
	Replicas int `json:"replicas,omitempty"`
	// The machines of the pool, for the hosts provider.
	Hosts []PoolHost `json:"hosts,omitempty"`
	// Labels of the pool's nodes. node-role.kubernetes.io/ and other reserved labels are not the user's to set.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints of the pool's nodes, beside the usual one of control-plane nodes.
	Taints []Taint `json:"taints,omitempty"`
	// How nodes that run are changed. Only for pools of workers: control planes are always changed one at a time.
	RollingUpdate RollingUpdate `json:"rollingUpdate,omitempty"`
}

// RollingUpdate is how the nodes of a pool are changed.
type RollingUpdate struct {
	// How many nodes of the pool may be disturbed at a time: a number, or a percentage of the pool, rounded down to at least one.
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
}

// PoolHost is a machine that exists, for the hosts provider.
type PoolHost struct {
	// Where SSH reaches the machine: an IPv4 address or a DNS name.
	Address string `json:"address"`
}

// Taint as in the Kubernetes API (core/v1).
type Taint struct {
	// Key of the taint: a qualified name such as example.com/dedicated.
	Key string `json:"key"`
	// Value of the taint; may be left out.
	Value string `json:"value,omitempty"`
	// What happens to pods that do not tolerate the taint.
	Effect string `json:"effect"`
}

// Network of pods and services.
type Network struct {
	// Network of the pods (IPv4); every node gets a /24 of it.
	PodSubnet string `json:"podSubnet,omitempty"`
	// Network of the services' virtual addresses (IPv4), /12 to /24.
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	// The domain under which services have names.
	DNSDomain string `json:"dnsDomain,omitempty"`
	// The pod network plugin; none leaves it to you, and nodes are not ready until you install one.
	// A cluster that has been up gets another one only with `slipway apply --allow-plugin-change`.
	Plugin string `json:"plugin,omitempty"`
	// How flannel carries packets between nodes; host-gw is faster and needs all nodes on one layer 2 network.
	// Only with plugin: flannel.
	FlannelBackend string `json:"flannelBackend,omitempty"`
	// How kube-proxy implements services.
	ProxyMode string `json:"proxyMode,omitempty"`
	// The cluster's DNS (CoreDNS).
	DNS DNS `json:"dns,omitempty"`
}

// DNS is what is changed of CoreDNS.
type DNS struct {
	// How many pods of CoreDNS there are. Without it there are two, or one on a single node, until somebody scales the
	// Deployment: what people or autoscalers choose stays.
	Replicas int `json:"replicas,omitempty"`
	// More server blocks for the Corefile, such as "corp.example:53 {\n  forward . 192.0.2.53\n}". The one of the cluster, for
	// all names on port 53, is slipway's.
	ExtraCorefile string `json:"extraCorefile,omitempty"`
}

// EndpointSpec is how clients outside reach the control plane.
type EndpointSpec struct {
	// Where clients outside the cluster reach the API server, "host" or "host:port"; empty means what the provider gives.
	Endpoint string `json:"endpoint,omitempty"`
	// More DNS names and IP addresses for the API server's certificate.
	CertSANs []string `json:"certSANs,omitempty"`
}

// PKI policy. Durations are "30y", "90d", "12h" or a sum such as "1y30d"; a year is 365 days.
type PKI struct {
	// How long certificate authorities are valid, such as 30y, 90d, 12h, 15m (minutes) or a sum (1y30d); at most 100y.
	CAValidity string `json:"caValidity,omitempty"`
	// How long all other certificates are valid; not longer than the authorities.
	LeafValidity string `json:"leafValidity,omitempty"`
	// How long the certificates of the administrators' kubeconfigs are valid (admin, super-admin). The default is leafValidity.
	AdminValidity string `json:"adminValidity,omitempty"`
	// How long at the most certificates are valid that the cluster signs for others (CertificateSigningRequest), those of
	// `slipway kubeconfig --user` too. The default is leafValidity.
	CSRValidity string `json:"csrValidity,omitempty"`
	// How long before their end certificates are renewed, at most four fifths of leafValidity. The default is a fifth
	// of a certificate's life, and at most a year.
	RenewalWindow string `json:"renewalWindow,omitempty"`
	// Algorithm of all keys. With Ed25519 the key that signs service-account tokens is ECDSA-P256, since Kubernetes
	// takes only RSA and ECDSA there.
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// When certificates end, for monitoring.
	ExpiryMetrics ExpiryMetrics `json:"expiryMetrics,omitempty"`
	// Algorithm of the authorities' keys. The default is keyAlgorithm.
	CAKeyAlgorithm string `json:"caKeyAlgorithm,omitempty"`
	// More fields of the subject of every certificate, authorities too. CN and O are Kubernetes' own.
	Subject Subject `json:"subject,omitempty"`
	// Domains in which nodes have names: <node>.<domain> goes into the serving certificate of each node's kubelet.
	KubeletDomains []string `json:"kubeletDomains,omitempty"`
	// Your own authorities, in place of those that slipway makes.
	Authorities Authorities `json:"authorities,omitempty"`
}

// Subject has the fields of a distinguished name (RFC 5280) that mean nothing to Kubernetes.
type Subject struct {
	// Organizational units (OU).
	OrganizationalUnits []string `json:"organizationalUnits,omitempty"`
	// Countries (C), of two letters each.
	Countries []string `json:"countries,omitempty"`
	// States or provinces (ST).
	Provinces []string `json:"provinces,omitempty"`
	// Cities or other places (L).
	Localities []string `json:"localities,omitempty"`
}

// Authorities are the user's own; those that are left out are made.
type Authorities struct {
	// Signs the certificates of the API server, of all its clients and of the kubelets. Who holds its key rules the cluster.
	Kubernetes *Authority `json:"kubernetes,omitempty"`
	// Signs the certificates of etcd and of its clients.
	Etcd *Authority `json:"etcd,omitempty"`
	// Signs the certificate by which API servers show extension API servers who asks.
	FrontProxy *Authority `json:"frontProxy,omitempty"`
}

// Authority is one that exists, in files. It may be below others, but must be for this one purpose alone.
type Authority struct {
	// File of its certificate in PEM, followed by those of its parents, each the issuer of the one before, if it does
	// not sign itself. Relative to the spec file; ~/ is your home.
	CertFile string `json:"certFile"`
	// File of its private key in PEM, not encrypted. It is copied into the state, and that of the kubernetes authority
	// to control planes; once it is in the state, the file may be gone. Where neither has it, certificates are signed
	// elsewhere: see `slipway certs csr`.
	KeyFile string `json:"keyFile,omitempty"`
}

// PodSecurity are the cluster-wide defaults of Pod Security admission.
type PodSecurity struct {
	// Pods that violate this standard are refused.
	Enforce string `json:"enforce,omitempty"`
	// Users are warned of pods that violate this standard.
	Warn string `json:"warn,omitempty"`
	// Pods that violate this standard are noted in the audit log.
	Audit string `json:"audit,omitempty"`
}

// State is where the cluster's keys and logs are kept.
type State struct {
	// A directory on this computer below which every cluster has one of its own name. Relative to the spec file;
	// ~/ is your home. It wins over SLIPWAY_STATE_DIR.
	Directory string `json:"directory,omitempty"`
	// A place in a bucket instead, for several people or machines.
	S3 *S3State `json:"s3,omitempty"`
	// Encrypts what is kept, with age, for whoever can read the directory or the bucket. A state in a bucket has to say.
	Encryption *Encryption `json:"encryption,omitempty"`
}

// S3State is a place in a bucket. Credentials are never in the spec: they are what the AWS SDK finds.
type S3State struct {
	// Name of the bucket, which must exist.
	Bucket string `json:"bucket"`
	// What the keys of the state's objects begin with. The default is the cluster's name; no other cluster may use it.
	Prefix string `json:"prefix,omitempty"`
	// The region of the bucket. The default is AWS_REGION, or that of the AWS profile.
	Region string `json:"region,omitempty"`
	// URL of a server that has the API of S3 and is not AWS. It must know conditional writes. Plain http:// only for
	// this computer itself, or with insecureHTTP.
	Endpoint string `json:"endpoint,omitempty"`
	// Go to the endpoint over plain http://, where whoever is on the way can read what is not encrypted, and change all.
	InsecureHTTP bool `json:"insecureHTTP,omitempty"`
	// Put the bucket's name into the path of URLs, not into the host name; what most servers other than AWS want.
	PathStyle bool `json:"pathStyle,omitempty"`
}

// Encryption is a union: one of recipients, passphrase and none. When it changes, the next apply encrypts anew.
type Encryption struct {
	// Public keys to encrypt to: age1..., ssh-ed25519 ... or ssh-rsa .... Who has the private key of any can read the
	// state, and apply.
	Recipients []string `json:"recipients,omitempty"`
	// Encrypt with a passphrase, which is asked for, or read from the file that SLIPWAY_PASSPHRASE_FILE names.
	Passphrase bool `json:"passphrase,omitempty"`
	// Keep the state in plain: whoever can read the place, or its backups, has the keys of the cluster's authorities.
	None bool `json:"none,omitempty"`
}
