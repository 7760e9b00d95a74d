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
	// SSH is how the operator's machine reaches and enters it. A user other than root needs sudo.
	SSH SSH
	// Address is where the other nodes reach this one: the kubelet's node IP, etcd's peer address.
	Address netip.Addr
	// Artifacts is a directory on the machine where the operator's bundles are mounted read-only
	// (one directory per bundle, named by its digest). If empty, they must be copied.
	Artifacts string
	// Arch is Go's name for the machine's architecture (GOARCH), as the provider knows it or as it
	// was when the machine was last changed; empty if that is unknown.
	Arch string
	// SharedDisk means that other programs use the machine's disk too, so its free space says
	// nothing about the machine: the kubelet ignores it.
	SharedDisk bool
}

// SSH is how sshd of a machine, or of a bastion on the way to it, is reached, verified and entered.
type SSH struct {
	// Address is "host:port" of sshd, as seen from the last of the Jumps, or from the operator's
	// machine if there are none. Names are resolved there.
	Address string
	// User to log in as.
	User string
	// Identities are keys to log in with, in the order in which they are offered.
	Identities []Identity
	// IdentitiesOnly means that of the SSH agent's keys only those in Identities are offered, as
	// with ssh_config(5). If it is false, the agent's other keys are offered first.
	IdentitiesOnly bool
	// Agent is the path of the SSH agent's socket; if empty, the user's. "none" is no agent.
	Agent string
	// HostKeys are the pinned keys of sshd, in authorized_keys format; if empty, known_hosts files
	// decide.
	HostKeys []string
	// KnownHosts are the known_hosts files; if empty, the user's.
	KnownHosts []string
	// HostKeyAlias is looked up in KnownHosts instead of Address; empty for Address.
	HostKeyAlias string
	// TrustOnFirstUse means that the key of a host without HostKeys, and that is not in KnownHosts,
	// is accepted. Whoever dials pins it from then on.
	TrustOnFirstUse bool
	// Jumps are the bastions on the way, the first hop first. Their own Jumps are empty.
	Jumps []SSH
}

// Identity is a key to log in with.
type Identity struct {
	// Name is the file of the private key, for messages and to ask for its passphrase.
	Name string
	// Private is the key in PEM, perhaps encrypted; if empty, only an agent has it.
	Private secret.Bytes
	// Public is the public key in authorized_keys format; if empty, it is part of Private.
	Public string
}

// KnownHosts is what the state records of existing machines.
type KnownHosts struct {
	// Hosts by PoolHost.Key.
	Hosts map[string]KnownHost `json:"hosts,omitempty"`
	// HostKeys are the keys of sshd that were trusted on first use, in authorized_keys format, by
	// SSH.Address.
	HostKeys map[string]string `json:"hostKeys,omitempty"`
}

// KnownHost is an existing machine, as it was when it became a node.
type KnownHost struct {
	// Name of the node.
	Name string `json:"name"`
	// Address is where other nodes reach it.
	Address netip.Addr `json:"address"`
}

// Self is what a machine says of itself before it is a node.
type Self struct {
	// HostName is its own name, in lower case.
	HostName string
	// Addresses are the IPv4 addresses of its network interfaces, without those of containers and
	// the loopback interface.
	Addresses []netip.Addr
}
