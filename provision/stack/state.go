package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/provision/kube"
)

// State is the observed or the desired state: of every host, and of the cluster's API and etcd.
// Objects in the API are not included: the API server compares them itself (server-side apply, dry
// run), since it knows its defaults best.
type State struct {
	// Hosts by node name.
	Hosts map[string]HostState `json:"hosts"`
	// Nodes in the API, by name. Observed, nil means that the API was not queried or did not
	// answer.
	Nodes map[string]kube.Node `json:"nodes,omitempty"`
	// Members of etcd, by name. Observed, nil means that etcd was not queried or did not answer.
	Members map[string]Member `json:"members,omitempty"`
}

// HostState is one host's part.
type HostState struct {
	// Files by absolute path: regular files, symbolic links and directories.
	Files map[string]File `json:"files,omitempty"`
	// Owned are the paths that slipway has written, with the digest of the content that it wrote
	// last; observed only.
	Owned map[string]string `json:"owned,omitempty"`
	// Units by name, with their suffix.
	Units map[string]Unit `json:"units,omitempty"`
	// Sysctls by dotted name. Observed, a key that the host lacks is absent.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Modules of the kernel, and whether they are loaded. Observed, one that the host cannot load is absent.
	Modules map[string]bool `json:"modules,omitempty"`
	// Accounts are system users with a group of the same name, and whether the host has both.
	Accounts map[string]bool `json:"accounts,omitempty"`
	// Images that the container runtime has, by reference. Observed, nil means that the runtime did not answer.
	Images map[string]bool `json:"images,omitempty"`
	// Authentication is the hash of the AuthenticationConfiguration that the API server uses,
	// "sha256:...". It is empty if no identity provider is wanted; observed, also if the API server
	// was not queried or did not answer.
	Authentication string `json:"authentication,omitempty"`
	// KeepVersions is how many superseded versions of a component stay (Excess); set in desired
	// state only.
	KeepVersions int `json:"-"`
	// Facts are observed only: desired state is computed from them.
	Facts Facts `json:"facts"`
}

// File is a regular file, a symbolic link (Mode&fs.ModeSymlink) or a directory (Mode&fs.ModeDir).
type File struct {
	Mode  fs.FileMode `json:"mode"`
	Owner string      `json:"owner"` // "user:group"
	// Digest is the hex SHA-256 of the content, or the target of a link; empty for a directory.
	Digest string `json:"digest,omitempty"`
	// Content is set in desired state only.
	Content []byte `json:"-"`
	// Secret content is never shown, by no command. Program is an artifact of the bundle.
	Secret  bool `json:"secret,omitempty"`
	Program bool `json:"program,omitempty"`
	// Sum is the hex SHA-256 of a program or of the target of its link, "none" if there is no
	// target; observed, empty is unknown. Identity identifies the file on this computer to which the
	// link leads (bundle.Identity); set in desired state only.
	Sum      string `json:"sum,omitempty"`
	Identity string `json:"-"`
	// Local is the file on this computer with the content of a program that is copied, and Size its
	// bytes; set in desired state only.
	Local string `json:"-"`
	Size  int64  `json:"-"`
	// Changed is when the file last changed, by the host's clock (its ctime); observed only.
	Changed time.Time `json:"changed,omitzero"`
	// Why explains the file in a plan; set in desired state only.
	Why string `json:"-"`
}

// Copied reports whether the file is a program that has to be copied to the host.
func (f File) Copied() bool { return f.Program && f.Mode.IsRegular() }

// Unit is a systemd service or timer.
type Unit struct {
	Enabled bool `json:"enabled,omitempty"`
	Active  bool `json:"active,omitempty"`
	// Inputs is the digest of the inputs that the running process was started with; a timer has
	// none.
	Inputs string `json:"inputs,omitempty"`
	// Reads are the paths of the files and programs in Inputs, and the unit file; set in desired
	// state only.
	Reads []string `json:"-"`
	// Unread means that systemd has not reread its file; observed only.
	Unread bool `json:"unread,omitempty"`
	// Replaced means that the file which it runs from is no longer at its path; observed only.
	Replaced bool `json:"replaced,omitempty"`
	// Running is how long it has been active, by the host's own clock; 0 if it is not, or if that
	// is unknown; observed only. MaxAge is its maximum, 0 for unlimited; set in desired state only.
	Running time.Duration `json:"-"`
	MaxAge  time.Duration `json:"-"`
	// State is systemd's state ("active/running"), Changed when it was entered; both are observed
	// only.
	State   string    `json:"state,omitempty"`
	Changed time.Time `json:"changed,omitzero"`
}

// Member is an etcd member.
type Member struct {
	// PeerURL is where the other members reach it.
	PeerURL string `json:"peerURL"`
	Healthy bool   `json:"healthy"`
	// Problem is why it is not healthy; observed only.
	Problem string `json:"problem,omitempty"`
	// Answers means that it answered a linearizable read, which only a member of a working majority
	// can. Out means that it certainly takes part in no majority (etcd.Member.Out). Both are
	// observed only; for a member that did not answer in time, both are false.
	Answers bool `json:"answers,omitempty"`
	Out     bool `json:"out,omitempty"`
	// Cluster is etcd's own ID of the cluster, in hex, as reported by the member; observed only.
	Cluster string `json:"-"`
}

// Facts are properties of a host that slipway does not change but must respect.
type Facts struct {
	// OS is PRETTY_NAME of os-release(5), Arch is Go's name for the architecture.
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	// CgroupV2 means that the unified hierarchy is mounted.
	CgroupV2 bool `json:"cgroupV2"`
	// SysResource is CAP_SYS_RESOURCE: without it no process may lower an oom_score_adj.
	SysResource bool `json:"sysResource"`
	// ReadSearch is CAP_DAC_READ_SEARCH: without it only root can be allowed to read files of
	// others.
	ReadSearch bool `json:"readSearch"`
	// NoSysusers means that there is no systemd-sysusers, and system users have to be created by
	// hand.
	NoSysusers bool `json:"noSysusers,omitempty"`
	// ConntrackWritable means that nf_conntrack_max can be raised.
	ConntrackWritable bool `json:"conntrackWritable"`
	// ResolvConf is a resolver file whose servers pods can reach, empty if the host has none.
	ResolvConf string `json:"resolvConf,omitempty"`
	// EtcdData means that an etcd member's data exists: its write-ahead log and its database.
	// EtcdDamaged means that a member's directory exists without one of them: data was lost, or a
	// first start was interrupted.
	EtcdData    bool `json:"etcdData,omitempty"`
	EtcdDamaged bool `json:"etcdDamaged,omitempty"`
	// Initialized means that the host has been part of a cluster that was up.
	Initialized bool `json:"initialized,omitempty"`
	// ClusterUID is the UID of the host's cluster; empty if it is part of none, or if an older
	// slipway set it up.
	ClusterUID string `json:"clusterUID,omitempty"`
	// Generation of that cluster, as recorded on the host: see Identity.
	Generation string `json:"generation,omitempty"`
	// PodSubnet, ServiceSubnet and DNSDomain are those that components were installed with; empty
	// without components.
	PodSubnet     string `json:"podSubnet,omitempty"`
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	DNSDomain     string `json:"dnsDomain,omitempty"`
	// Node is the name that the kubelet was installed with; empty without one.
	Node string `json:"node,omitempty"`
	// Systemd is false if PID 1 is another program.
	Systemd bool `json:"systemd"`
	// FreeBytes are available to root on /var.
	FreeBytes int64 `json:"freeBytes"`
	// DiskBytes is the size of that file system; 0 is unknown.
	DiskBytes int64 `json:"diskBytes,omitempty"`
	// Clock is the reading of the host's clock during the observation.
	Clock Clock `json:"-"`
	// Superseded are versions that the host still has beside those that it should have.
	Superseded []Version `json:"superseded,omitempty"`
}

// Digest is the hex SHA-256 of content.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// NoFile is the Sum of a program whose link has no target.
const NoFile = "none"

// Blind returns a program whose link is correct but has no target: the machine does not see the
// bundle.
func (h HostState) Blind() string {
	for _, name := range slices.Sorted(maps.Keys(h.Files)) {
		if f := h.Files[name]; f.Sum == NoFile && f.Mode.Type() == fs.ModeSymlink {
			return name
		}
	}
	return ""
}
