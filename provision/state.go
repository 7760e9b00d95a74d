// Package provision turns a spec, machines, a PKI and a bundle into desired state, observes the hosts, and makes of
// the difference changes and of the changes steps.
//
// Desired and observed state are one type, State. Desired, Diff and Schedule are pure; Observe only reads; all effects
// are in the steps that Schedule binds. Where machines come from is not its business, nor what a person is shown.
package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
)

// State is what is, or what should be, on every host. What is in the cluster's API is compared by the API server
// itself (server-side apply, dry run), which knows its defaults better than anybody.
type State struct {
	// Hosts by node name.
	Hosts map[string]HostState
}

// HostState is one host's part.
type HostState struct {
	// Files by absolute path: regular files, symbolic links and directories.
	Files map[string]File
	// Units by name, with their suffix.
	Units map[string]Unit
	// Sysctls by dotted name.
	Sysctls map[string]string
	// Facts are observed only: desired state is computed from them.
	Facts Facts
}

// File is a regular file, a symbolic link (Mode&fs.ModeSymlink) or a directory (Mode&fs.ModeDir).
type File struct {
	Mode  fs.FileMode
	Owner string // "user:group"
	// Digest is the hex SHA-256 of the content, or the target of a link; empty for a directory.
	Digest string
	// Content is set in desired state only.
	Content []byte
	// Secret content is never shown, by no command.
	Secret bool
	// Owned says that slipway once put the file there; set in observed state only.
	Owned bool
	// Why the file is there, for the reader of a plan; set in desired state only.
	Why string
}

// Unit is a systemd service.
type Unit struct {
	Enabled bool
	Active  bool
	// Inputs is the digest of what the running process was started with.
	Inputs string
	// State is systemd's word for it ("active/running"), observed only.
	State string
}

// Facts are properties of a host that slipway does not change but must respect.
type Facts struct {
	// OS is PRETTY_NAME of os-release(5), Arch is Go's name for the architecture.
	OS, Kernel, Arch string
	// CgroupV2 says that the unified hierarchy is mounted.
	CgroupV2 bool
	// SysResource is CAP_SYS_RESOURCE: without it nothing may lower an oom_score_adj.
	SysResource bool
	// ConntrackWritable says that nf_conntrack_max can be raised.
	ConntrackWritable bool
	// ResolvConf is a resolver file whose servers pods can reach, empty where the host has none.
	ResolvConf string
	// EtcdData says that an etcd member's data is there.
	EtcdData bool
	// Initialized says that the host has been part of a cluster that was up.
	Initialized bool
	// Systemd is false where PID 1 is something else.
	Systemd bool
	// FreeBytes are available to root on /var.
	FreeBytes int64
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
