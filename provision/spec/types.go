package spec

// The comments on the fields below are the descriptions in the JSON Schema and in docs/spec.md:
// write them for the user of the YAML. Enumerations, defaults and examples are in the table of
// constraints.go. A field without omitempty is required.

// APIVersion and Kind are the only values that a spec may have.
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

// Cluster is a complete spec.
type Cluster struct {
	// Version of this file's format.
	APIVersion string `json:"apiVersion"`
	// What this file describes.
	Kind string `json:"kind"`
	// The name of the cluster.
	Metadata Metadata `json:"metadata"`
	// The desired cluster.
	Spec ClusterSpec `json:"spec"`
}

// Metadata names the cluster.
type Metadata struct {
	// Name of the cluster: a DNS label (a-z, 0-9 and dashes). Nodes are named <cluster>-<pool>-<n>,
	// unless their machines have names of their own.
	Name string `json:"name"`
	// UID of the cluster. Slipway makes it at the first apply and keeps it in the state. If set,
	// the spec cannot be used for another cluster.
	UID string `json:"uid,omitempty"`
}

// ClusterSpec is the desired cluster; all fields except kubernetes.version, provider and nodePools
// have defaults.
type ClusterSpec struct {
	// The version of Kubernetes, and settings of its components.
	Kubernetes Kubernetes `json:"kubernetes"`
	// Where machines come from: exactly one of local, aws and hosts.
	Provider Provider `json:"provider"`
	// Groups of similar nodes: an odd number of control-plane nodes, and any number of workers.
	NodePools []NodePool `json:"nodePools"`
	// The network of pods and services.
	Network Network `json:"network,omitempty"`
	// How clients outside the cluster reach the control plane.
	ControlPlane EndpointSpec `json:"controlPlane,omitempty"`
	// The etcd member on each control-plane node.
	Etcd Etcd `json:"etcd,omitempty"`
	// Validity, contents and CAs of certificates. See docs/certificates.md.
	PKI PKI `json:"pki,omitempty"`
	// The cluster-wide defaults of Pod Security admission. Labels of a namespace take precedence.
	PodSecurity PodSecurity `json:"podSecurity,omitempty"`
	// Where the cluster's keys and logs are kept, and how they are encrypted. See docs/state.md.
	State State `json:"state,omitempty"`
	// The programs and images of nodes. See docs/bundle.md.
	Bundle Bundle `json:"bundle,omitempty"`
	// Let kubelets start on hosts that still use cgroup v1, which Kubernetes has deprecated
	// (KEP-4569). The default is true for the local provider, which has to use this computer's
	// kernel, and false for others.
	AllowCgroupV1 *bool `json:"allowCgroupV1,omitempty"`
}

// Kubernetes is the version, and settings of its components.
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

// APIServer is the kube-apiserver: its flags, its audit policy and its authentication.
type APIServer struct {
	// Flags without their dashes. They override slipway's flags, except those that slipway owns;
	// enable-admission-plugins adds to slipway's plugins.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// What the audit log records: the rules and omitStages of a Policy (audit.k8s.io/v1), replacing
	// slipway's policy. That policy records writes, reads of secrets, and access to pods (exec,
	// attach, port-forward, proxy), but no contents.
	AuditPolicy map[string]any `json:"auditPolicy,omitempty"`
	// Additional ways to authenticate, besides certificates and tokens of the cluster.
	Authentication Authentication `json:"authentication,omitempty"`
}

// Authentication is the part of the API server's AuthenticationConfiguration (KEP-3331) that a user
// can set.
type Authentication struct {
	// Identity providers whose tokens (OpenID Connect) are accepted: a list of JWTAuthenticator
	// (apiserver.config.k8s.io/v1), with issuer, claimMappings, claimValidationRules and
	// userValidationRules. A change needs no restart. See docs/hardening.md.
	JWT []map[string]any `json:"jwt,omitempty"`
}

// Component is a program whose command line can be extended.
type Component struct {
	// Flags without their dashes. They override slipway's flags, except those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
}

// Etcd is the etcd member on each control-plane node.
type Etcd struct {
	// Flags without their dashes. They override slipway's flags, except those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// Additional DNS names and IP addresses for the members' serving certificates.
	CertSANs []string `json:"certSANs,omitempty"`
}

// ConfigComponent is a program that also reads a component configuration file. The values of its
// patch have the types of encoding/json, except that whole numbers are int64.
type ConfigComponent struct {
	// Flags without their dashes. They override slipway's flags, except those that slipway owns.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// A JSON merge patch (RFC 7386) for the generated configuration file; null removes a field.
	ConfigPatch map[string]any `json:"configPatch,omitempty"`
}

// Provider is a union: exactly one member is set.
type Provider struct {
	// Docker containers on this computer.
	Local *LocalProvider `json:"local,omitempty"`
	// EC2 instances on AWS. Not available yet.
	AWS *AWSProvider `json:"aws,omitempty"`
	// Existing machines, reached over SSH. See docs/hosts.md.
	Hosts *HostsProvider `json:"hosts,omitempty"`
}

// LocalProvider makes machines as Docker containers on this computer.
type LocalProvider struct {
	// Subnet of the Docker network. It must not overlap the pod or service subnet.
	Subnet string `json:"subnet,omitempty"`
	// Port on 127.0.0.1 where the API server is published; 0, the default, picks a free one and
	// keeps it.
	APIPort int `json:"apiPort,omitempty"`
	// How machines get programs and images: mount, the default, mounts the bundle of this computer;
	// copy copies what each machine needs over SSH, as for machines elsewhere. It cannot be changed
	// while machines exist.
	Bundle BundleDelivery `json:"bundle,omitempty"`
}

// Bundle has settings for the programs and images of all nodes.
type Bundle struct {
	// How many old versions of a component stay on a node after another one was installed, for
	// example to change back without copying. Older ones that nothing uses are removed by the next
	// apply; the plan lists them. The default is 2.
	KeepVersions *int `json:"keepVersions,omitempty"`
	// A mirror: a web server with what `slipway bundle mirror` has written, reached over https or
	// http. Machines that get copies fetch them from there themselves, all but slipway. What does
	// not have the digest that it should have is not used. See docs/bundle.md.
	URL string `json:"url,omitempty"`
}

// keptVersions is the default of keepVersions.
const keptVersions = 2

// Kept is how many old versions of a component stay on a node.
func (b Bundle) Kept() int {
	if b.KeepVersions == nil {
		return keptVersions
	}
	return *b.KeepVersions
}

// BundleDelivery is how machines get the artifacts of a bundle.
type BundleDelivery string

// The ways in which machines get the artifacts of a bundle.
const (
	MountBundle BundleDelivery = "mount"
	CopyBundle  BundleDelivery = "copy"
)

// AWSProvider makes EC2 instances. Not available yet.
type AWSProvider struct {
	// The AWS region to create machines in.
	Region string `json:"region,omitempty"`
}

// NodePool is a group of similar nodes, named "<cluster>-<pool>-<n>", n from 1.
type NodePool struct {
	// Name of the pool: a DNS label (a-z, 0-9 and dashes), part of its nodes' names.
	Name string `json:"name"`
	// Role of the pool's nodes.
	Role Role `json:"role"`
	// Number of nodes. Not for the hosts provider, where the hosts are listed.
	Replicas int `json:"replicas,omitempty"`
	// The machines of the pool, for the hosts provider.
	Hosts []PoolHost `json:"hosts,omitempty"`
	// What lists the machines of the pool, instead of hosts. It is run by every command that needs
	// the machines. See docs/hosts.md.
	HostsFrom *HostsFrom `json:"hostsFrom,omitempty"`
	// How the machines of the pool are entered, for the hosts provider.
	SSH SSHSettings `json:"ssh,omitempty"`
	// Labels of the pool's nodes. node-role.kubernetes.io/ and other reserved labels cannot be set.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints of the pool's nodes, in addition to the usual one of control-plane nodes.
	Taints []Taint `json:"taints,omitempty"`
	// How kube-proxy implements services on the pool's nodes, for kernels that differ from the
	// others'. The default is network.proxyMode.
	ProxyMode string `json:"proxyMode,omitempty"`
	// How running nodes are changed. Only for pools of workers: control planes are always changed
	// one at a time.
	RollingUpdate RollingUpdate `json:"rollingUpdate,omitempty"`
}

// RollingUpdate is how the nodes of a pool are changed.
type RollingUpdate struct {
	// Number of the pool's nodes that may be disrupted at the same time: a number, or a percentage,
	// rounded down to at least one.
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
}

// Taint as in the Kubernetes API (core/v1).
type Taint struct {
	// Key of the taint: a qualified name such as example.com/dedicated.
	Key string `json:"key"`
	// Value of the taint; optional.
	Value string `json:"value,omitempty"`
	// Effect on pods that do not tolerate the taint.
	Effect string `json:"effect"`
}

// Network of pods and services.
type Network struct {
	// Subnet of the pods (IPv4); every node gets a /24 of it.
	PodSubnet string `json:"podSubnet,omitempty"`
	// Subnet of the services' virtual addresses (IPv4), /12 to /24.
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	// DNS domain of services.
	DNSDomain string `json:"dnsDomain,omitempty"`
	// The pod network plugin. With none, nodes are not ready until you install one. In a cluster
	// that has been up, it can only be changed with `slipway apply --allow-plugin-change`.
	Plugin string `json:"plugin,omitempty"`
	// How flannel sends packets between nodes; host-gw is faster, and needs all nodes on one layer
	// 2 network. Only with plugin: flannel.
	FlannelBackend string `json:"flannelBackend,omitempty"`
	// How kube-proxy implements services.
	ProxyMode string `json:"proxyMode,omitempty"`
	// The cluster's DNS (CoreDNS).
	DNS DNS `json:"dns,omitempty"`
}

// DNS has settings of CoreDNS.
type DNS struct {
	// Number of CoreDNS pods. The default is two, or one on a single node; scaling the Deployment
	// by hand or with an autoscaler is respected.
	Replicas int `json:"replicas,omitempty"`
	// More server blocks for the Corefile, such as "corp.example:53 {\n forward . 192.0.2.53\n}".
	// The block for all names on port 53 belongs to slipway.
	ExtraCorefile string `json:"extraCorefile,omitempty"`
}

// EndpointSpec is how clients outside the cluster reach the control plane.
type EndpointSpec struct {
	// Where clients outside the cluster reach the API server, "host" or "host:port". The default is
	// the provider's endpoint.
	Endpoint string `json:"endpoint,omitempty"`
	// Additional DNS names and IP addresses for the API server's certificate.
	CertSANs []string `json:"certSANs,omitempty"`
}

// PKI policy. Durations are "30y", "90d", "12h" or a sum such as "1y30d"; a year is 365 days.
type PKI struct {
	// Validity of CAs, such as 30y, 90d, 12h, 15m (minutes) or a sum (1y30d); at most 100y.
	CAValidity string `json:"caValidity,omitempty"`
	// Validity of all other certificates; not longer than that of the CAs.
	LeafValidity string `json:"leafValidity,omitempty"`
	// Validity of the certificates in the administrators' kubeconfigs (admin, super-admin). The
	// default is leafValidity.
	AdminValidity string `json:"adminValidity,omitempty"`
	// Maximum validity of certificates that the cluster signs for others
	// (CertificateSigningRequest), including `slipway kubeconfig --user`. The default is
	// leafValidity.
	CSRValidity string `json:"csrValidity,omitempty"`
	// How long before they expire certificates are renewed, at most four fifths of leafValidity.
	// The default is a fifth of a certificate's lifetime, at most a year.
	RenewalWindow string `json:"renewalWindow,omitempty"`
	// Algorithm of all keys. With Ed25519, the key that signs service-account tokens is ECDSA-P256,
	// because Kubernetes only accepts RSA and ECDSA there.
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
	// Expiry of certificates, for monitoring.
	ExpiryMetrics ExpiryMetrics `json:"expiryMetrics,omitempty"`
	// Algorithm of the CA keys. The default is keyAlgorithm.
	CAKeyAlgorithm string `json:"caKeyAlgorithm,omitempty"`
	// Additional fields of the subject of every certificate, including CAs. Kubernetes uses CN and
	// O.
	Subject Subject `json:"subject,omitempty"`
	// Domains in which nodes have names: <node>.<domain> goes into the serving certificate of each
	// node's kubelet.
	KubeletDomains []string `json:"kubeletDomains,omitempty"`
	// Your own CAs. Slipway makes those that are left out.
	Authorities Authorities `json:"authorities,omitempty"`
}

// Subject has the fields of a distinguished name (RFC 5280) that Kubernetes does not use.
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

// Authorities are the user's own CAs; slipway makes those that are left out.
type Authorities struct {
	// Signs the certificates of the API server, of all its clients and of the kubelets. Its key
	// gives full control of the cluster.
	Kubernetes *Authority `json:"kubernetes,omitempty"`
	// Signs the certificates of etcd and of its clients.
	Etcd *Authority `json:"etcd,omitempty"`
	// Signs the certificate that API servers use to forward a user's identity to extension API
	// servers.
	FrontProxy *Authority `json:"frontProxy,omitempty"`
}

// Authority is the user's own CA, in files. It may have parents, but must serve only this purpose.
type Authority struct {
	// File of its certificate in PEM, followed by those of its parents if it is not self-signed,
	// each the issuer of the previous one. Relative to the spec file; ~/ is your home.
	CertFile string `json:"certFile"`
	// File of its private key in PEM, not encrypted. It is copied into the state; that of the
	// kubernetes CA is also copied to control planes. Once the state has it, the file may be
	// removed. If neither has it, this is an external CA: see `slipway certs csr`.
	KeyFile string `json:"keyFile,omitempty"`
}

// PodSecurity are the cluster-wide defaults of Pod Security admission.
type PodSecurity struct {
	// Pods that violate this standard are refused.
	Enforce string `json:"enforce,omitempty"`
	// Users are warned of pods that violate this standard.
	Warn string `json:"warn,omitempty"`
	// Pods that violate this standard are recorded in the audit log.
	Audit string `json:"audit,omitempty"`
}

// State is where the cluster's keys and logs are kept.
type State struct {
	// A directory on this computer, with a subdirectory for each cluster. Relative to the spec
	// file; ~/ is your home. It overrides SLIPWAY_STATE_DIR.
	Directory string `json:"directory,omitempty"`
	// A bucket instead of a directory, shared by several people or machines.
	S3 *S3State `json:"s3,omitempty"`
	// Encryption of the state with age. Required for a state in a bucket.
	Encryption *Encryption `json:"encryption,omitempty"`
}

// S3State is a prefix in a bucket. Credentials are never in the spec: the AWS SDK finds them.
type S3State struct {
	// Name of the bucket, which must exist.
	Bucket string `json:"bucket"`
	// Prefix of the state's objects. The default is the cluster's name; no other cluster may use
	// it.
	Prefix string `json:"prefix,omitempty"`
	// The region of the bucket. The default is AWS_REGION, or that of the AWS profile.
	Region string `json:"region,omitempty"`
	// URL of a server other than AWS with the S3 API. It must support conditional writes. http://
	// is only allowed for this computer, or with insecureHTTP.
	Endpoint string `json:"endpoint,omitempty"`
	// Allow an http:// endpoint. Anyone on the network path can read what is not encrypted, and
	// change everything.
	InsecureHTTP bool `json:"insecureHTTP,omitempty"`
	// Put the bucket's name into the path of URLs, not into the host name. Most servers other than
	// AWS need this.
	PathStyle bool `json:"pathStyle,omitempty"`
}

// Encryption is a union: one of recipients, passphrase and none. If it changes, the next apply
// re-encrypts the state.
type Encryption struct {
	// Public keys to encrypt to: age1..., ssh-ed25519 ... or ssh-rsa .... The private key of any of
	// them can read the state, and apply.
	Recipients []string `json:"recipients,omitempty"`
	// Encrypt with a passphrase. Slipway asks for it, or reads it from the file in
	// SLIPWAY_PASSPHRASE_FILE.
	Passphrase bool `json:"passphrase,omitempty"`
	// Do not encrypt the state: anyone who can read it, or its backups, has the keys of the
	// cluster's CAs.
	None bool `json:"none,omitempty"`
}
