package spec

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
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Metadata   Metadata    `json:"metadata"`
	Spec       ClusterSpec `json:"spec"`
}

// Metadata names the cluster. The name is a DNS label and begins every node's name.
type Metadata struct {
	Name string `json:"name"`
}

// ClusterSpec is the desired cluster; all but Kubernetes.Version, Provider and NodePools has a default.
type ClusterSpec struct {
	Kubernetes   Kubernetes   `json:"kubernetes"`
	Provider     Provider     `json:"provider"`
	NodePools    []NodePool   `json:"nodePools"`
	Network      Network      `json:"network,omitempty"`
	ControlPlane EndpointSpec `json:"controlPlane,omitempty"`
	Etcd         Component    `json:"etcd,omitempty"`
	PKI          PKI          `json:"pki,omitempty"`
	PodSecurity  PodSecurity  `json:"podSecurity,omitempty"`
	// AllowCgroupV1 lets kubelets start on hosts that still use cgroup v1, which Kubernetes has deprecated
	// (KEP-4569). Defaults to true for the local provider, whose hosts are not ours to choose, and to false elsewhere.
	AllowCgroupV1 *bool `json:"allowCgroupV1,omitempty"`
}

// Kubernetes is the version and what is changed of its components.
type Kubernetes struct {
	// Version is a release, "v1.36.3".
	Version           string          `json:"version"`
	APIServer         Component       `json:"apiServer,omitempty"`
	ControllerManager Component       `json:"controllerManager,omitempty"`
	Scheduler         ConfigComponent `json:"scheduler,omitempty"`
	Kubelet           ConfigComponent `json:"kubelet,omitempty"`
	Proxy             ConfigComponent `json:"proxy,omitempty"`
}

// Component is a program whose command line can be extended.
type Component struct {
	// ExtraArgs are flags without their dashes; they win over slipway's own.
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
}

// ConfigComponent is a program that also reads a component configuration file.
type ConfigComponent struct {
	ExtraArgs map[string]string `json:"extraArgs,omitempty"`
	// ConfigPatch is a JSON merge patch (RFC 7386) laid over the generated configuration.
	ConfigPatch map[string]any `json:"configPatch,omitempty"`
}

// Provider is a union: exactly one member is set.
type Provider struct {
	Local *LocalProvider `json:"local,omitempty"`
	AWS   *AWSProvider   `json:"aws,omitempty"`
	Hosts *HostsProvider `json:"hosts,omitempty"`
}

// LocalProvider makes machines out of Docker containers on this computer.
type LocalProvider struct {
	// Subnet of the Docker network, default 10.89.0.0/24. Must not meet the pod or service subnet.
	Subnet string `json:"subnet,omitempty"`
	// APIPort on 127.0.0.1 where the API balancer is published; 0 picks a free one and keeps it.
	APIPort int `json:"apiPort,omitempty"`
}

// AWSProvider makes EC2 instances. Not available yet.
type AWSProvider struct{}

// HostsProvider takes machines that exist. Not available yet.
type HostsProvider struct{}

// NodePool is a group of like nodes, named "<cluster>-<pool>-<n>", n from 1.
type NodePool struct {
	Name     string            `json:"name"`
	Role     Role              `json:"role"`
	Replicas int               `json:"replicas,omitempty"`
	Hosts    []PoolHost        `json:"hosts,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Taints   []Taint           `json:"taints,omitempty"`
}

// PoolHost is a machine that exists, for the hosts provider.
type PoolHost struct {
	Address string `json:"address"`
}

// Taint as in the Kubernetes API (core/v1).
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Network of pods and services.
type Network struct {
	PodSubnet     string `json:"podSubnet,omitempty"`
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	DNSDomain     string `json:"dnsDomain,omitempty"`
	// Plugin is "flannel" or "none".
	Plugin string `json:"plugin,omitempty"`
	// FlannelBackend is "vxlan" or "host-gw".
	FlannelBackend string `json:"flannelBackend,omitempty"`
	// ProxyMode is "nftables", "iptables" or "ipvs".
	ProxyMode string `json:"proxyMode,omitempty"`
}

// EndpointSpec is how clients outside reach the control plane.
type EndpointSpec struct {
	// Endpoint is "host" or "host:port"; empty means what the provider gives.
	Endpoint string   `json:"endpoint,omitempty"`
	CertSANs []string `json:"certSANs,omitempty"`
}

// PKI policy. Durations are "30y", "90d", "12h" or a sum such as "1y30d"; a year is 365 days.
type PKI struct {
	CAValidity   string `json:"caValidity,omitempty"`
	LeafValidity string `json:"leafValidity,omitempty"`
	// KeyAlgorithm is "ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072" or "RSA-4096".
	KeyAlgorithm string `json:"keyAlgorithm,omitempty"`
}

// PodSecurity are the cluster-wide defaults of Pod Security admission: "privileged", "baseline" or "restricted".
// The defaults enforce "privileged" (nothing) and warn and audit at "baseline".
type PodSecurity struct {
	Enforce string `json:"enforce,omitempty"`
	Warn    string `json:"warn,omitempty"`
	Audit   string `json:"audit,omitempty"`
}
