package templates

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"sigs.k8s.io/yaml"
)

// Containerd is /etc/containerd/config.toml (containerd 2, config version 3).
type Containerd struct {
	PauseImage string
	// Runc is the absolute path of the runtime.
	Runc string
	// SystemdCgroup is for hosts on cgroup v2.
	SystemdCgroup bool
	// RestrictOOMScoreAdj is for hosts without CAP_SYS_RESOURCE, which cannot protect processes
	// from the OOM killer.
	RestrictOOMScoreAdj bool
	CNIBinDirs          []string
}

// Render returns the file's text.
func (c Containerd) Render() ([]byte, error) { return render("containerd.toml", c) }

// Taint as in core/v1.
type Taint struct{ Key, Value, Effect string }

// Reserved are resource quantities, as in core/v1: for the stack, and for the rest of the machine.
type Reserved struct {
	KubeCPU, KubeMemory, SystemCPU, SystemMemory string
}

// Kubelet is a KubeletConfiguration (kubelet.config.k8s.io/v1beta1).
type Kubelet struct {
	CgroupDriver        string // "systemd" or "cgroupfs"
	AllowCgroupV1       bool   // KEP-4569
	ClusterDNS          string
	DNSDomain           string
	ResolvConf          string
	RestrictOOMScoreAdj bool
	// SharedDisk keeps the kubelet from judging by how full the disk is.
	SharedDisk bool
	Taints     []Taint
	// Reserved are the resources that pods do not get.
	Reserved Reserved
	// Patch is a JSON merge patch (RFC 7386) from the spec.
	Patch map[string]any
}

// Render returns the file's text.
func (k Kubelet) Render() ([]byte, error) { return renderPatched("kubelet.yaml", k, k.Patch) }

// Proxy is a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
type Proxy struct {
	NodeName  string
	PodSubnet string
	Mode      string // "nftables", "iptables" or "ipvs"
	// ConntrackWritable means that nf_conntrack_max can be set on the host.
	ConntrackWritable   bool
	RestrictOOMScoreAdj bool
	Patch               map[string]any
}

// Render returns the file's text.
func (p Proxy) Render() ([]byte, error) { return renderPatched("kube-proxy.yaml", p, p.Patch) }

// Scheduler is a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1).
type Scheduler struct{ Patch map[string]any }

// Render returns the file's text.
func (s Scheduler) Render() ([]byte, error) { return renderPatched("kube-scheduler.yaml", s, s.Patch) }

// PodSecurity is the API server's admission configuration: levels are "privileged", "baseline" or
// "restricted".
type PodSecurity struct{ Enforce, Warn, Audit string }

// Render returns the file's text.
func (p PodSecurity) Render() ([]byte, error) { return render("admission.yaml", p) }

// EncryptionKey is a key for secretbox, 32 bytes in base64. Its name is stored with all that it
// encrypts.
type EncryptionKey struct{ Name, Key string }

// Encryption is the API server's EncryptionConfiguration: the first key encrypts, all decrypt.
type Encryption struct{ Keys []EncryptionKey }

// Render returns the file's text, which is secret. It fails if there are no keys, or two with the
// same name: the API server would then decrypt with the wrong one.
func (e Encryption) Render() ([]byte, error) {
	if len(e.Keys) == 0 {
		return nil, errors.New("render encryption.yaml: there is no key")
	}
	names := map[string]bool{}
	for _, k := range e.Keys {
		if k.Name == "" || names[k.Name] {
			return nil, fmt.Errorf("render encryption.yaml: %d keys need a name each, and %q is not one key's", len(e.Keys), k.Name)
		}
		names[k.Name] = true
	}
	return render("encryption.yaml", e)
}

// Flannel is flannel's net-conf.json.
type Flannel struct {
	PodSubnet string
	Backend   string // "vxlan" or "host-gw"
	NFTables  bool
}

// Render returns the file's text.
func (f Flannel) Render() ([]byte, error) { return render("net-conf.json", f) }

// Balancer is the configuration of `slipway balancer`; addresses are host:port.
type Balancer struct {
	Listen, Backends []string
	CAFile           string
}

// Render returns the file's text.
func (b Balancer) Render() ([]byte, error) { return render("balancer.json", b) }

// Static files carry no values.
func static(name string) []byte {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(fmt.Sprintf("embedded file: %v", err)) // only a file missing from the source tree gets here
	}
	return text
}

// AuditPolicy is the API server's audit policy (audit.k8s.io/v1).
type AuditPolicy struct {
	// Policy takes the place of slipway's own, unless it is nil.
	Policy map[string]any
}

// Render returns the file's text.
func (a AuditPolicy) Render() ([]byte, error) {
	if a.Policy == nil {
		return static("audit-policy.yaml"), nil
	}
	policy := maps.Clone(a.Policy)
	policy["apiVersion"], policy["kind"] = "audit.k8s.io/v1", "Policy"
	text, err := yaml.Marshal(policy)
	if err != nil {
		return nil, fmt.Errorf("render the audit policy: %w", err)
	}
	return text, nil
}

// Authentication is the API server's AuthenticationConfiguration: whom it takes anonymously, and
// where, and the identity providers (JWTAuthenticator) whose tokens it takes.
type Authentication struct{ JWT []map[string]any }

// Render returns the file's text.
func (a Authentication) Render() ([]byte, error) {
	text := Anonymous()
	if len(a.JWT) == 0 {
		return text, nil
	}
	jwt, err := yaml.Marshal(map[string]any{"jwt": a.JWT})
	if err != nil {
		return nil, fmt.Errorf("render authentication.yaml: %w", err)
	}
	return append(text, jwt...), nil
}

// Anonymous is the part of an AuthenticationConfiguration that an API server takes only when it
// starts.
func Anonymous() []byte { return static("authentication.yaml") }

// FlannelCNI is flannel's CNI network configuration list.
func FlannelCNI() []byte { return static("flannel-cni.conflist") }

// Sysctls is a sysctl.d(5) fragment.
func Sysctls() []byte { return static("sysctl.conf") }

// Accounts is a sysusers.d(5) fragment.
func Accounts() []byte { return static("sysusers.conf") }

// Modules is a modules-load.d(5) fragment.
type Modules struct {
	Names []string
}

// Render returns the file's text.
func (m Modules) Render() ([]byte, error) { return render("modules.conf", m) }

// Crictl is /etc/crictl.yaml.
func Crictl() []byte { return static("crictl.yaml") }

// StackSlice is the unit file of slipway.slice (systemd.slice(5)).
func StackSlice() []byte { return static("slipway.slice") }

// Basics are objects that every cluster gets: its identity, its endpoint, and the permissions of
// API servers on kubelets. Like all objects, they are applied with server-side apply.
type Basics struct {
	// ClusterInfo is the kubeconfig published in kube-public/cluster-info: server and CA, no
	// credentials.
	ClusterInfo string
	// UID of the cluster.
	UID string
}

// Render returns a multi-document YAML stream.
func (b Basics) Render() ([]byte, error) { return render("rbac.yaml", b) }

// CoreDNS is the cluster's DNS.
type CoreDNS struct {
	DNSDomain string
	// ClusterIP of the DNS service.
	ClusterIP string
	// Image of CoreDNS, already on the machines.
	Image string
	// Replicas of CoreDNS; with YieldReplicas, scaling by others is respected.
	Replicas      int
	YieldReplicas bool
	// ExtraCorefile are server blocks after the cluster's own.
	ExtraCorefile string
	// Forward sends names outside the cluster to the nodes' resolvers.
	Forward bool
}

// Render returns a multi-document YAML stream.
func (c CoreDNS) Render() ([]byte, error) { return render("coredns.yaml", c) }

// FlannelRights are flanneld's permissions in the API.
func FlannelRights() ([]byte, error) { return render("flannel.yaml", nil) }

// renderPatched lays a JSON merge patch over a rendered YAML document. Without a patch the text
// keeps its comments.
func renderPatched(name string, data any, patch map[string]any) ([]byte, error) {
	text, err := render(name, data)
	if err != nil || len(patch) == 0 {
		return text, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("parse rendered %s: %w", name, err)
	}
	text, err = yaml.Marshal(mergePatch(doc, normalize(patch)))
	if err != nil {
		return nil, fmt.Errorf("write patched %s: %w", name, err)
	}
	return text, nil
}

// mergePatch is RFC 7386, section 2, for objects.
func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, key)
		case map[string]any:
			child, _ := target[key].(map[string]any)
			target[key] = mergePatch(child, value)
		default:
			target[key] = value
		}
	}
	return target
}

// normalize converts a patch to the types of encoding/json, whatever decoder read it.
func normalize(patch map[string]any) map[string]any {
	text, err := json.Marshal(patch)
	if err != nil {
		return patch
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		return patch
	}
	return out
}

// ObserveScript reads what a host is; see observe.Observe for what it prints. It asks about the
// kernel parameters in $SYSCTLS, the modules in $MODULES and the system users in $ACCOUNTS,
// separated by spaces, and the paths in $PATHS, one a line.
func ObserveScript() string {
	return VersionsScript() + etcdDataScript() + string(static("observe.sh"))
}

// etcdDataScript returns a shell function that tells how the data of an etcd member is.
func etcdDataScript() string { return string(static("etcd-data.sh")) }

// VersionsScript returns shell functions that find out what uses versions of programs.
func VersionsScript() string { return string(static("versions.sh")) }

// PreflightScript says what decides whether a machine can become a node, as package preflight parses
// it. It asks about the kernel modules in $MODULES, the parameters in $SYSCTLS, the programs in $TOOLS,
// the directories in $DIRS, what others may have left in $LEFTOVERS and the listeners on $PORTS (in
// hexadecimal), separated by spaces, and the node's $ADDRESS. It measures the disk below $SYNC, if set.
func PreflightScript() string { return string(static("preflight.sh")) }

// DiagnoseScript prints how a host is, as package diagnose parses it. It asks about the systemd units in
// $UNITS, the disks below $DIRS, the kubeconfigs in $KUBECONFIGS, the private keys in $KEYS and the
// files in $CONFIGS, separated by spaces, and about the rules of kube-proxy in its $MODE. It has the
// end of the logs of units that fail and, if $LINES is not 0, so many lines of each unit's.
func DiagnoseScript() string { return etcdDataScript() + string(static("diagnose.sh")) }

// ReachScript tries the ways between machines. It listens at $ADDRESS on the ports in $TCP and $UDP,
// separated by spaces, and tries $TARGETS, one a line; $MESSAGE is what it sends over UDP.
func ReachScript() string { return string(static("preflight-reach.sh")) }

// ConnectionsScript lists the connections that units have made, and keeps the list in the directory
// $KEEP; or waits until those in $BEFORE have ended; or says of the lists in $KEPT whether they have.
func ConnectionsScript() string { return string(static("connections.sh")) }
