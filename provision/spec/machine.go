package spec

import (
	"net/netip"

	"slipway.dev/slipway/provision/secret"
)

// Machine is a host before it is a node: providers return Machines, and provisioning uses them.
// Machines correspond one to one to the Nodes of a Cluster, by name.
type Machine struct {
	// Name is the node's name, "<cluster>-<pool>-<n>".
	Name string
	Pool string
	Role Role
	// SSHAddress is where the operator's machine reaches sshd, as "host:port".
	SSHAddress string
	// SSHUser is the user to log in as; a user other than root needs `sudo -n`.
	SSHUser string
	// SSHKey is the private key (PEM) to log in with; if empty, the keys of the user's SSH agent are
	// offered.
	SSHKey secret.Bytes
	// HostKeys are the pinned keys of sshd, in authorized_keys format; if empty, the user's
	// known_hosts files decide.
	HostKeys []string
	// Address is where the other nodes reach this one: the kubelet's node IP, etcd's peer address.
	Address netip.Addr
	// Artifacts is a directory on the machine where the operator's bundles are mounted read-only
	// (one directory per bundle, named by its digest). If empty, they must be copied.
	Artifacts string
	// SharedDisk means that other programs use the machine's disk too, so its free space says
	// nothing about the machine: the kubelet ignores it.
	SharedDisk bool
}
