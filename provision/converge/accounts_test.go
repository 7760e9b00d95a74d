package converge

import (
	"errors"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// etcd's user is there before any file is: whatever ends the run then, a unit that is there can be started.
func TestAccountsComeBeforeFiles(t *testing.T) {
	want := stack.HostState{Accounts: map[string]bool{stack.EtcdAccount: true}, Files: map[string]stack.File{"/new": stack.Regular([]byte("x"), false, "")}}
	want.Files[stack.OwnedFile] = stack.Regular(stack.Ownership(want.Files), false, "")
	changes := plan.Diff(stack.State{Hosts: map[string]stack.HostState{"h": want}}, stack.State{Hosts: map[string]stack.HostState{"h": {}}})
	h := hosttest.NewMemory("h")
	h.OnWrite(func([]host.File) error {
		t.Error("files are written though there is no user")
		return nil
	})
	h.On("systemd-sysusers", hosttest.Answer{Err: errRun})
	if err := converge(t.Context(), h, want, stack.HostState{}, changes, false); !errors.Is(err, errRun) {
		t.Errorf("error is %v", err)
	}
}

// Where nobody but root can be let at keys, etcd runs as it did before.
func TestEtcdRunsAsItsUser(t *testing.T) {
	in := fixture.Input(t)
	facts := in.Facts["demo-cp-2"]
	facts.ReadSearch = false
	in.Facts["demo-cp-2"] = facts
	in.Cluster.Spec.Etcd.ExtraArgs = map[string]string{spec.EtcdLogOutputs: "stderr," + spec.EtcdLogDir + "etcd.log"}
	state := fixture.Desired(t, in)
	for name, wants := range map[string][]string{
		"demo-cp-1": {
			"\nUser=etcd\nGroup=etcd\nAmbientCapabilities=CAP_DAC_READ_SEARCH\n", "\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n",
			"\nExecStartPre=+/bin/chown -RhH etcd:etcd /var/lib/etcd /var/log/etcd\n", "\nLogsDirectory=etcd\n",
		},
		"demo-cp-2": {"\nCapabilityBoundingSet=CAP_DAC_OVERRIDE\n"},
	} {
		text := string(state.Hosts[name].Files[stack.UnitDir+stack.EtcdService].Content)
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
