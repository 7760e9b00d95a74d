package converge

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// makeAccounts makes the accounts that a host lacks; empty where it lacks none. It comes before any file is written: a unit
// whose user is not there would not start again where the host goes down in between.
func makeAccounts(changes []plan.Change) string {
	names := named(changes, plan.AccountChange, plan.Create)
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
const openPrograms = "find " + stack.ProgramDir + " -type d ! -perm -0055 -exec chmod go+rx {} +"

// beforeEtcd is what comes before etcd is stopped or started. Where the cluster lives, that is a proof, too.
func beforeEtcd(changes []plan.Change, want stack.HostState, first bool) []string {
	if !slices.ContainsFunc(changes, func(c plan.Change) bool {
		return c.Kind == plan.UnitChange && c.Name == stack.EtcdService && c.Action != plan.Await
	}) {
		return nil
	}
	if try := tryEtcd(want); try != "" && !first {
		return []string{openPrograms, try}
	}
	return []string{openPrograms}
}

// tryEtcd proves that systemd can run etcd's program as its user and that this one can read its keys; empty where it runs
// as root. The data is not touched.
func tryEtcd(want stack.HostState) string {
	i := slices.IndexFunc(want.Units[stack.EtcdService].Reads, func(p string) bool { return strings.HasPrefix(p, stack.ProgramDir) })
	if i < 0 || !strings.Contains(string(want.Files[stack.UnitDir+stack.EtcdService].Content), "\nUser="+stack.EtcdAccount+"\n") {
		return ""
	}
	const unit = "slipway-try-etcd"
	try := "exec 3<" + stack.PKIDir + "/etcd/server.key && exec " + want.Units[stack.EtcdService].Reads[i] + " --version"
	return "systemd-run --quiet --wait --pipe --collect --unit=" + unit + " -p User=" + stack.EtcdAccount + " -p Group=" + stack.EtcdAccount +
		" -p AmbientCapabilities=CAP_DAC_READ_SEARCH -p CapabilityBoundingSet=CAP_DAC_READ_SEARCH -p NoNewPrivileges=yes -p ProtectHome=yes" +
		" -p RuntimeMaxSec=60 /bin/sh -c " + host.Quote(try) + " </dev/null >/dev/null || { echo 'etcd cannot run as the user " + stack.EtcdAccount +
		" here, and was not touched:' >&2; journalctl -q --no-pager -n 5 -o cat -u " + unit + " >&2; exit 1; }"
}
