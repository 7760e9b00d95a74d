package converge

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// makeAccounts returns a script that creates the accounts that a host lacks, "" if it lacks none.
// It runs before any file is written: if the host went down in between, a unit whose user does not
// exist would not start again.
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

// accountThere is a shell test.
func accountThere(name string) string {
	return "{ getent passwd " + name + " && getent group " + name + "; } >/dev/null"
}

// openPrograms lets users other than root execute programs, even if root's umask has restricted the
// directories.
const openPrograms = "find " + stack.ProgramDir + " -type d ! -perm -0055 -exec chmod go+rx {} +"

// beforeEtcd runs before etcd is stopped or started. If the cluster is up, that includes a test.
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

// tryEtcd tests that systemd can run etcd's program as its user and that this user can read its
// keys; "" if it runs as root. The data is not touched.
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
