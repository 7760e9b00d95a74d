package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/templates"
)

// etcdAccount is the system user that etcd runs as, and its group (CIS 1.1.12).
const etcdAccount = "etcd"

// accountsFile is what systemd makes the account from where a machine begins with an empty /etc.
const accountsFile = "/etc/sysusers.d/slipway.conf"

// etcdUser is whom etcd runs as; empty is root. What is not root needs CAP_DAC_READ_SEARCH to read keys, which stay root's.
func (n node) etcdUser() string {
	if !n.facts.ReadSearch {
		return ""
	}
	return etcdAccount
}

// accounts are the system users that the stack has on a node, each with a group of its name.
func (n node) accounts() map[string]bool {
	if !n.controlPlane() {
		return nil
	}
	return map[string]bool{etcdAccount: true}
}

// etcdLogs is the directory below /var/log that is etcd's, where the spec has it write into files.
func (n node) etcdLogs() string {
	if strings.Contains(n.Cluster.Spec.Etcd.ExtraArgs[spec.EtcdLogOutputs], spec.EtcdLogDir) {
		return etcdAccount
	}
	return ""
}

// accounts compares only whether they are there: one that the machine had before is taken as it is.
func (d *hostDiff) accounts(want map[string]bool, have HostState) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have.Accounts[name] {
			continue
		}
		c := Change{Kind: AccountChange, Name: name, Action: Create, Cause: Wanted, Reason: "not there yet"}
		if _, owned := have.Owned[accountsFile]; owned {
			c.Cause, c.Reason = Drift, "the user or its group was removed on the host"
		}
		d.add(c)
	}
}

// refuseAccount says why a control plane cannot have the account that etcd runs as; empty where it can.
func refuseAccount(h HostState) string {
	if !h.Facts.NoSysusers || h.Accounts[etcdAccount] {
		return ""
	}
	return fmt.Sprintf("etcd runs as the user %[1]s and its group, the host does not have both, and it lacks systemd-sysusers, which makes them. Make them there: "+
		"`groupadd --system %[1]s; useradd --system --gid %[1]s --home-dir %[2]s --no-create-home --shell /usr/sbin/nologin %[1]s`", etcdAccount, "/var/lib/etcd")
}

// makeAccounts makes the accounts that a host lacks; empty where it lacks none. It comes before any file is written: a unit
// whose user is not there would not start again where the host goes down in between.
func makeAccounts(changes []Change) string {
	names := named(changes, AccountChange, Create)
	if len(names) == 0 {
		return ""
	}
	script := "set -e\nprintf %s " + host.Quote(string(templates.Accounts())) + " | systemd-sysusers -\n"
	for _, name := range names {
		script += accountThere(name) + " || { echo 'systemd-sysusers has made no user and group " + name + "' >&2; exit 1; }\n"
	}
	return script
}

// accountThere is a test of a shell.
func accountThere(name string) string {
	return "{ getent passwd " + name + " && getent group " + name + "; } >/dev/null"
}

// openPrograms lets others than root get at programs, also where root's umask has kept them from the directories.
const openPrograms = "find " + programDir + " -type d ! -perm -0055 -exec chmod go+rx {} +"

// beforeEtcd is what comes before etcd is stopped or started. Where the cluster lives, that is a proof, too.
func beforeEtcd(changes []Change, want HostState, first bool) []string {
	if !slices.ContainsFunc(changes, func(c Change) bool { return c.Kind == UnitChange && c.Name == etcdService && c.Action != Await }) {
		return nil
	}
	if try := tryEtcd(want); try != "" && !first {
		return []string{openPrograms, try}
	}
	return []string{openPrograms}
}

// tryEtcd proves that systemd can run etcd's program as its user and that this one can read its keys; empty where it runs
// as root. The data is not touched.
func tryEtcd(want HostState) string {
	i := slices.IndexFunc(want.Units[etcdService].Reads, func(p string) bool { return strings.HasPrefix(p, programDir) })
	if i < 0 || !strings.Contains(string(want.Files[unitDir+etcdService].Content), "\nUser="+etcdAccount+"\n") {
		return ""
	}
	const unit = "slipway-try-etcd"
	try := "exec 3<" + pkiDir + "/etcd/server.key && exec " + want.Units[etcdService].Reads[i] + " --version"
	return "systemd-run --quiet --wait --pipe --collect --unit=" + unit + " -p User=" + etcdAccount + " -p Group=" + etcdAccount +
		" -p AmbientCapabilities=CAP_DAC_READ_SEARCH -p CapabilityBoundingSet=CAP_DAC_READ_SEARCH -p NoNewPrivileges=yes -p ProtectHome=yes" +
		" -p RuntimeMaxSec=60 /bin/sh -c " + host.Quote(try) + " </dev/null >/dev/null || { echo 'etcd cannot run as the user " + etcdAccount +
		" here, and was not touched:' >&2; journalctl -q --no-pager -n 5 -o cat -u " + unit + " >&2; exit 1; }"
}
