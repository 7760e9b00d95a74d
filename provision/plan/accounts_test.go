package plan

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func TestAccountsAreCompared(t *testing.T) {
	want := map[string]bool{stack.EtcdAccount: true}
	for name, tt := range map[string]struct {
		have  stack.HostState
		cause Cause
	}{
		"there, whoever made it": {have: stack.HostState{Accounts: want}},
		"not yet there":          {have: stack.HostState{Owned: map[string]string{"/a": ""}}, cause: Wanted},
		"removed, or a machine that was made anew with its disk": {have: stack.HostState{Owned: map[string]string{stack.AccountsFile: ""}}, cause: Drift},
	} {
		var d hostDiff
		d.accounts(want, tt.have)
		switch {
		case tt.cause == "" && len(d.changes) == 0:
		case len(d.changes) != 1 || d.changes[0].Cause != tt.cause || d.changes[0].Kind != AccountChange || d.changes[0].Name != stack.EtcdAccount:
			t.Errorf("%s: %v", name, d.changes)
		}
	}
}

// A control plane that cannot get the user is left alone, and says how it gets it; a worker needs none.
func TestRefuseHostsThatCannotMakeAccounts(t *testing.T) {
	in := fixture.Input(t)
	for name, tt := range map[string]struct {
		lacks, has bool
		refused    bool
	}{
		"makes it":                {},
		"cannot make it":          {lacks: true, refused: true},
		"somebody has made it":    {lacks: true, has: true},
		"has it, and can make it": {has: true},
	} {
		observed := stack.State{Hosts: map[string]stack.HostState{}}
		for _, m := range in.Machines {
			h := stack.HostState{Facts: stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true, NoSysusers: tt.lacks}}
			if tt.has {
				h.Accounts = map[string]bool{stack.EtcdAccount: true}
			}
			observed.Hosts[m.Name] = h
		}
		r := Refuse(in, Before{}, observed)
		for _, m := range in.Machines {
			why := strings.Join(r.Hosts[m.Name], "\n")
			if refused := strings.Contains(why, "useradd --system"); refused != (tt.refused && m.Role == spec.ControlPlane) {
				t.Errorf("%s: %s is refused: %q", name, m.Name, why)
			}
		}
	}
}
