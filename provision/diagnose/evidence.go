package diagnose

import (
	"net/netip"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/spec"
)

// Evidence is what was seen of a cluster at one time. It holds no secrets: keys are compared by
// digest, and log lines are redacted.
type Evidence struct {
	Cluster string `json:"cluster"`
	// Taken is this computer's time.
	Taken time.Time `json:"taken"`
	// Version of Kubernetes, from the spec.
	Version string `json:"kubernetesVersion"`
	// FileArg is added to the commands of findings: " -f FILE", or empty.
	FileArg string `json:"-"`
	// Hosts in the order of the spec.
	Hosts []Host `json:"hosts"`
	API   API    `json:"api"`
	Etcd  Etcd   `json:"etcd"`
	// Certificates where they are used.
	Certificates []Certificate `json:"certificates"`
	// Paths are attempts to reach one node from another.
	Paths []Path `json:"paths"`
	// Drift is what a plan would change, by host; the key "" is for objects of the API. DriftError
	// is why it is unknown.
	Drift      map[string][]string `json:"drift,omitempty"`
	DriftError string              `json:"driftError,omitempty"`
}

// Hop is a step on the way to a machine.
type Hop string

// The hops, in their order. HopNone means that the machine was reached.
const (
	HopNone    Hop = ""
	HopMachine Hop = "machine"
	HopName    Hop = "DNS name"
	HopBastion Hop = "bastion"
	HopTCP     Hop = "TCP"
	HopHostKey Hop = "host key"
	HopAuth    Hop = "login"
	HopSudo    Hop = "sudo"
	HopShell   Hop = "shell"
)

// Host is one machine.
type Host struct {
	Name    string     `json:"name"`
	Role    spec.Role  `json:"role"`
	Address netip.Addr `json:"address"`
	// Hop is where the way to the machine ends, and Problem why. Without a report nothing else is
	// known.
	Hop     Hop    `json:"hop,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Complete means that the host's report has its end; a report that was cut off counts as far as
	// it goes.
	Complete bool `json:"complete"`
	// Offset is how far the host's clock is ahead of this computer's; see stack.Clock.
	Offset time.Duration `json:"clockOffset"`
	Uptime time.Duration `json:"uptime"`
	// Facts are single values of the report: "memavailable" (kB), "net.ipv4.ip_forward".
	Facts map[string]string `json:"facts"`
	// Units are the expected ones.
	Units []Unit `json:"units"`
	Disks []Disk `json:"disks"`
	CNI   CNI    `json:"cni"`
	// Networks are the addresses of interfaces.
	Networks map[string]netip.Prefix `json:"networks,omitempty"`
	// Servers are those of kubeconfigs that differ from what they should be, by path.
	Servers []Server `json:"kubeconfigServers,omitempty"`
	// Keys are the paths of private keys that are not those of the state.
	Keys []string `json:"foreignKeys,omitempty"`
	// ProxyRules is the number of lines that kube-proxy has set up; negative if unknown.
	ProxyRules int `json:"proxyRules"`
	// Drops are packet filter rules that drop traffic, as iptables -S prints them.
	Drops []string `json:"drops,omitempty"`
	// Health has an entry for each health endpoint of the node's units.
	Health []Health `json:"health,omitempty"`
	// DNS is what came of resolving a name of the cluster through the Service's address, over TCP;
	// empty if it worked. DNSAsked means that it was tried.
	DNS      string `json:"dns,omitempty"`
	DNSAsked bool   `json:"dnsAsked"`
}

// Reached reports whether the host's report was read.
func (h *Host) Reached() bool { return h.Hop == HopNone }

// Unit is a systemd unit of a node.
type Unit struct {
	Name string `json:"name"`
	// Load, Active, Sub, File and Result are systemd's words: "loaded", "active", "running",
	// "enabled", "exit-code".
	Load   string `json:"load"`
	Active string `json:"active"`
	Sub    string `json:"sub"`
	File   string `json:"file"`
	Result string `json:"result"`
	// Status of the main process's end: an exit code, or a signal.
	Status int `json:"status"`
	// Restarts are those that systemd made by itself within the last minute.
	Restarts int `json:"restarts"`
	// Changed is when it entered its state, by the host's clock, and For how long ago that was.
	Changed time.Time     `json:"changed,omitzero"`
	For     time.Duration `json:"for"`
	// Queued means that it waits for another unit.
	Queued bool `json:"queued,omitempty"`
	// Why is the line of its log that says why it ended.
	Why string `json:"why,omitempty"`
}

// Disk is a file system with one of the cluster's directories.
type Disk struct {
	Target string `json:"target"`
	Type   string `json:"type"`
	// Size and Free are bytes, Inodes and FreeInodes counts; Inodes is 0 if it has no limit.
	Size       int64 `json:"size"`
	Free       int64 `json:"free"`
	Inodes     int64 `json:"inodes"`
	FreeInodes int64 `json:"freeInodes"`
}

// CNI is the configuration of the pod network.
type CNI struct {
	// Files of /etc/cni/net.d, Types the plugins that they name, Plugins the programs there are.
	Files   []string `json:"files"`
	Types   []string `json:"types"`
	Plugins []string `json:"plugins"`
}

// Server is the server of a kubeconfig.
type Server struct {
	Path string `json:"path"`
	Is   string `json:"is"`
	Want string `json:"want"`
}

// Health is an answer of a health endpoint.
type Health struct {
	Unit  string `json:"unit"`
	URL   string `json:"url"`
	Error string `json:"error,omitempty"`
}

// Certificate is a certificate where it is used.
type Certificate struct {
	certs.Use
	// Trust is why its CA's certificate does not verify it: another CA has signed it.
	Trust string `json:"trust,omitempty"`
	// Names are those that it lacks.
	Names []string `json:"lackingNames,omitempty"`
}

// PathKind is what was tried between two nodes.
type PathKind string

// The kinds of paths.
const (
	NodeNetwork PathKind = "node network"
	PodNetwork  PathKind = "pod network"
	ToAPI       PathKind = "API server"
	ToEtcd      PathKind = "etcd"
)

// Path is an attempt to reach a node from another.
type Path struct {
	Kind    PathKind `json:"kind"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	Address string   `json:"address"`
	// Error is why it was not reached; a connection that is refused has arrived.
	Error string `json:"error,omitempty"`
	// Refused means that nothing listens there.
	Refused bool `json:"refused,omitempty"`
}

// Etcd is what its members say.
type Etcd struct {
	// Error is why no member answered.
	Error   string   `json:"error,omitempty"`
	Asked   bool     `json:"asked"`
	Members []Member `json:"members"`
}

// Member is an etcd member.
type Member struct {
	// Name is a node's; Known means that the other members list it, Expected that it is of the spec.
	Name     string   `json:"name"`
	ID       string   `json:"id,omitempty"`
	Cluster  string   `json:"cluster,omitempty"`
	Known    bool     `json:"known"`
	Expected bool     `json:"expected"`
	Answers  bool     `json:"answers"`
	Out      bool     `json:"out"`
	Leader   bool     `json:"leader"`
	Learner  bool     `json:"learner"`
	Version  string   `json:"version,omitempty"`
	DBSize   int64    `json:"dbSizeBytes"`
	Quota    int64    `json:"quotaBytes"`
	Alarms   []string `json:"alarms,omitempty"`
	Error    string   `json:"error,omitempty"`
	// Fsync and Commit are the mean times of the write-ahead log's fsync and the database's commit
	// since the member started; 0 if unknown. LeaderChanges counts since then.
	Fsync         time.Duration `json:"fsync"`
	Commit        time.Duration `json:"commit"`
	LeaderChanges int           `json:"leaderChanges"`
}
