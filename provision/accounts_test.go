package provision

import (
	"errors"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/hosttest"
)

// etcd's user is there before any file is: whatever ends the run then, a unit that is there can be started.
func TestAccountsComeBeforeFiles(t *testing.T) {
	want := HostState{Accounts: map[string]bool{etcdAccount: true}, Files: map[string]File{"/new": regular([]byte("x"), false, "")}}
	want.Files[ownedFile] = regular(owned(want.Files), false, "")
	changes := Diff(State{Hosts: map[string]HostState{"h": want}}, State{Hosts: map[string]HostState{"h": {}}})
	h := hosttest.NewMemory("h")
	h.OnWrite(func([]host.File) error {
		t.Error("files are written though there is no user")
		return nil
	})
	h.On("systemd-sysusers", hosttest.Answer{Err: errRun})
	if err := converge(t.Context(), h, want, HostState{}, changes, false); !errors.Is(err, errRun) {
		t.Errorf("error is %v", err)
	}
}

func TestAccountsAreCompared(t *testing.T) {
	want := map[string]bool{etcdAccount: true}
	for name, tt := range map[string]struct {
		have  HostState
		cause Cause
	}{
		"there, whoever made it": {have: HostState{Accounts: want}},
		"not yet there":          {have: HostState{Owned: map[string]string{"/a": ""}}, cause: Wanted},
		"removed, or a machine that was made anew with its disk": {have: HostState{Owned: map[string]string{accountsFile: ""}}, cause: Drift},
	} {
		var d hostDiff
		d.accounts(want, tt.have)
		switch {
		case tt.cause == "" && len(d.changes) == 0:
		case len(d.changes) != 1 || d.changes[0].Cause != tt.cause || !strings.Contains(makeAccounts(d.changes), `u etcd - "etcd`):
			t.Errorf("%s: %v", name, d.changes)
		}
	}
}

// A control plane that cannot get the user is left alone, and says how it gets it; a worker needs none.
func TestRefuseHostsThatCannotMakeAccounts(t *testing.T) {
	in := input(t)
	for name, tt := range map[string]struct {
		lacks, has bool
		refused    bool
	}{
		"makes it":                {},
		"cannot make it":          {lacks: true, refused: true},
		"somebody has made it":    {lacks: true, has: true},
		"has it, and can make it": {has: true},
	} {
		observed := State{Hosts: map[string]HostState{}}
		for _, m := range in.Machines {
			h := HostState{Facts: Facts{Systemd: true, Arch: "amd64", CgroupV2: true, NoSysusers: tt.lacks}}
			if tt.has {
				h.Accounts = map[string]bool{etcdAccount: true}
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

// Where nobody but root can be let at keys, etcd runs as it did before.
func TestEtcdRunsAsItsUser(t *testing.T) {
	in := input(t)
	facts := in.Facts["demo-cp-2"]
	facts.ReadSearch = false
	in.Facts["demo-cp-2"] = facts
	in.Cluster.Spec.Etcd.ExtraArgs = map[string]string{spec.EtcdLogOutputs: "stderr," + spec.EtcdLogDir + "etcd.log"}
	state := desired(t, in)
	for name, wants := range map[string][]string{
		"demo-cp-1": {
			"\nUser=etcd\nGroup=etcd\nAmbientCapabilities=CAP_DAC_READ_SEARCH\n", "\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n",
			"\nExecStartPre=+/bin/chown -RhH etcd:etcd /var/lib/etcd /var/log/etcd\n", "\nLogsDirectory=etcd\n",
		},
		"demo-cp-2": {"\nCapabilityBoundingSet=CAP_DAC_OVERRIDE\n"},
	} {
		text := string(state.Hosts[name].Files[unitDir+etcdService].Content)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the unit lacks %q:\n%s", name, want, text)
			}
		}
		if asRoot := !strings.Contains(text, "User="); asRoot != (name == "demo-cp-2") || asRoot != (tryEtcd(state.Hosts[name]) == "") {
			t.Errorf("%s: etcd runs as root: %t, and is tried with %q", name, asRoot, tryEtcd(state.Hosts[name]))
		}
	}
}
