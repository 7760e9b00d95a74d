package spec

import (
	"net/netip"

	"slipway.dev/slipway/provision/secret"
)

// Machine is a host before it is a node: what a provider hands over and what provisioning consumes.
// Machines correspond one to one to the Nodes of a Cluster, by name.
type Machine struct {
	// Name is the node's name, "<cluster>-<pool>-<n>".
	Name string
	Pool string
	Role Role
	// SSHAddress is where the operator's machine reaches sshd, as "host:port".
	SSHAddress string
	// SSHUser logs in; anything but root must be able to `sudo -n`.
	SSHUser string
	// SSHKey is the private key (PEM) to log in with; empty means the user's agent and default keys.
	SSHKey secret.Bytes
	// HostKeys are the pinned keys of sshd, in authorized_keys format; empty means known_hosts decides.
	HostKeys []string
	// Address is where the other nodes reach this one: the kubelet's node IP, etcd's peer address.
	Address netip.Addr
	// Artifacts is a directory on the machine where the operator's bundles are visible read-only
	// (one directory a bundle, named by its digest); empty means they must be copied.
	Artifacts string
	// SharedDisk says that the machine's disk is one that others use, too, so that how full it is says nothing about the
	// machine: its kubelet goes on until nothing is left.
	SharedDisk bool
}
