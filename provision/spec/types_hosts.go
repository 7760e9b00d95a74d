package spec

// HostsProvider uses existing machines.
type HostsProvider struct {
	// How the machines are entered. Pools and hosts can override it.
	SSH SSHSettings `json:"ssh,omitempty"`
	// The SSH client configuration (ssh_config) that completes the settings; none reads none. The
	// default is ~/.ssh/config and /etc/ssh/ssh_config. Relative to the spec file; ~/ is your home.
	SSHConfig string `json:"sshConfig,omitempty"`
}

// SSHSettings is how a machine is entered. What is left out comes from the pool, then from the
// provider, then from ssh_config; what none of them has is ssh's default.
type SSHSettings struct {
	// The user to log in as: root, the default, or a user who may use sudo.
	User string `json:"user,omitempty"`
	// The port of sshd. The default is 22.
	Port int `json:"port,omitempty"`
	// Files of the private keys to log in with; no other key is offered. The default is all keys of
	// the SSH agent, then ssh's default files. Relative to the spec file; ~/ is your home.
	IdentityFiles []string `json:"identityFiles,omitempty"`
	// Socket of the SSH agent; none uses none. The default is SSH_AUTH_SOCK.
	Agent string `json:"agent,omitempty"`
	// Files of known host keys. The default is ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	// Relative to the spec file; ~/ is your home.
	KnownHostsFiles []string `json:"knownHostsFiles,omitempty"`
	// Bastions on the way to the machine, the first hop first, each "user@host:port", with user and
	// port optional; [none] uses none.
	Jumps []string `json:"jumps,omitempty"`
	// Accept the host key of a machine that no file has, on the first connection, and record it in
	// the state: from then on, only that key is accepted.
	TrustOnFirstUse *bool `json:"trustOnFirstUse,omitempty"`
}

// PoolHost is an existing machine, for the hosts provider.
type PoolHost struct {
	// Where SSH reaches the machine: an IPv4 address, a DNS name, or a Host of ssh_config.
	Address string `json:"address"`
	// The IPv4 address where the other nodes reach the machine. The default is its only private
	// address, or address if it has none.
	PrivateAddress string `json:"privateAddress,omitempty"`
	// Name of the node. The default is the machine's own host name at its first apply.
	Name string `json:"name,omitempty"`
	// How the machine is entered.
	SSH SSHSettings `json:"ssh,omitempty"`
}

// HostsFrom is a union: exactly one member is set.
type HostsFrom struct {
	// An output of Terraform or OpenTofu: a list of addresses, or of hosts as in hosts.
	TerraformOutput *TerraformOutput `json:"terraformOutput,omitempty"`
	// A group of an Ansible inventory.
	AnsibleGroup *AnsibleGroup `json:"ansibleGroup,omitempty"`
	// A program and its arguments, run in the directory of the spec, which prints a JSON list of
	// addresses, or of hosts as in hosts.
	Command []string `json:"command,omitempty"`
}

// TerraformOutput is an output of a Terraform or OpenTofu directory.
type TerraformOutput struct {
	// The directory of the configuration, which has been initialised and applied. Relative to the
	// spec file; ~/ is your home.
	Directory string `json:"directory"`
	// Name of the output.
	Output string `json:"output"`
	// The program to run. The default is tofu if it is installed, otherwise terraform.
	Program string `json:"program,omitempty"`
}

// AnsibleGroup is a group of an Ansible inventory. Its hosts' ansible_host, ansible_port and
// ansible_user are used, and the variable private_address.
type AnsibleGroup struct {
	// The inventory: a file or a directory. Relative to the spec file; ~/ is your home.
	Inventory string `json:"inventory"`
	// Name of the group. The hosts of its children belong to it.
	Group string `json:"group"`
}
