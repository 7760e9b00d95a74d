package stack

import (
	"strings"

	"slipway.dev/slipway/provision/spec"
)

// EtcdAccount is the system user that etcd runs as, and its group (CIS 1.1.12).
const EtcdAccount = "etcd"

// AccountsFile is what systemd makes the account from where a machine begins with an empty /etc.
const AccountsFile = "/etc/sysusers.d/slipway.conf"

// etcdUser is whom etcd runs as; empty is root. What is not root needs CAP_DAC_READ_SEARCH to read keys, which stay root's.
func (n Node) etcdUser() string {
	if !n.facts.ReadSearch {
		return ""
	}
	return EtcdAccount
}

// accounts are the system users that the stack has on a node, each with a group of its name.
func (n Node) accounts() map[string]bool {
	if !n.ControlPlane() {
		return nil
	}
	return map[string]bool{EtcdAccount: true}
}

// etcdLogs is the directory below /var/log that is etcd's, where the spec has it write into files.
func (n Node) etcdLogs() string {
	if strings.Contains(n.Cluster.Spec.Etcd.ExtraArgs[spec.EtcdLogOutputs], spec.EtcdLogDir) {
		return EtcdAccount
	}
	return ""
}
