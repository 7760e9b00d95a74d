package plan

import (
	"fmt"
	"maps"
	"slices"

	"slipway.dev/slipway/provision/stack"
)

// accounts compares only whether they exist: an account that the machine already had is used as it
// is.
func (d *hostDiff) accounts(want map[string]bool, have stack.HostState) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have.Accounts[name] {
			continue
		}
		c := Change{Kind: AccountChange, Name: name, Action: Create, Cause: Wanted, Reason: "missing"}
		if _, owned := have.Owned[stack.AccountsFile]; owned {
			c.Cause, c.Reason = Drift, "the user or its group was removed on the host"
		}
		d.add(c)
	}
}

// refuseAccount returns why a control plane cannot have the account that etcd runs as, or "" if it
// can.
func refuseAccount(h stack.HostState) string {
	if !h.Facts.NoSysusers || h.Accounts[stack.EtcdAccount] {
		return ""
	}
	return fmt.Sprintf("etcd runs as the user %[1]s and its group; the host does not have both, nor systemd-sysusers, which would create them. "+
		"Create them there: `groupadd --system %[1]s; useradd --system --gid %[1]s --home-dir %[2]s --no-create-home "+
		"--shell /usr/sbin/nologin %[1]s`", stack.EtcdAccount, "/var/lib/etcd")
}
