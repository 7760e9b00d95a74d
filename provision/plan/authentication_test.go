package plan

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestAuthenticationIsReloaded: an identity provider restarts nothing, and each API server is waited for. It stays known that
// one has not taken the file, although the file is there.
func TestAuthenticationIsReloaded(t *testing.T) {
	in := fixture.Input(t)
	was := fixture.Desired(t, in)
	for name, h := range was.Hosts { // as they are observed: each unit was started after its files had been written
		h.Owned = map[string]string{}
		for p, f := range h.Files {
			h.Owned[p] = f.Digest
			f.Changed = time.Unix(1, 0)
			h.Files[p] = f
		}
		for unit, u := range h.Units {
			u.Changed = time.Unix(2, 0)
			h.Units[unit] = u
		}
		was.Hosts[name] = h
	}
	in.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT = []map[string]any{fixture.Provider}
	want := fixture.Desired(t, in)
	text := want.Hosts["demo-cp-1"].Files[stack.AuthenticationFile].Content
	if !bytes.Contains(text, []byte("url: https://login.example.com")) || !bytes.Contains(text, []byte("path: /livez")) {
		t.Errorf("the file is:\n%s", text)
	}
	changes := Diff(want, was)
	for _, c := range changes {
		if c.Kind == UnitChange || c.Name != stack.AuthenticationFile && !c.Bookkeeping() {
			t.Errorf("a new identity provider changes %v", c)
		}
	}
	s := Situation{Machines: in.Machines, Alive: true, Initialized: true, Changes: changes}
	gates := func() (hosts []string) {
		for _, step := range Schedule(s) {
			if step.Verb == AwaitAuthentication {
				hosts = append(hosts, step.Host)
			}
		}
		return hosts
	}
	if got := strings.Join(gates(), " "); got != "demo-cp-1 demo-cp-2 demo-cp-3" {
		t.Errorf("waited is for %q", got)
	}

	is := fixture.Desired(t, in)
	host := is.Hosts["demo-cp-2"]
	host.Authentication = stack.ConfigHash(was.Hosts["demo-cp-2"].Files[stack.AuthenticationFile].Content)
	is.Hosts["demo-cp-2"] = host
	s.Changes = Diff(want, is)
	if len(s.Changes) != 1 || s.Changes[0].Action != Await || s.Changes[0].Name != stack.APIServerService {
		t.Fatalf("of a file that was not taken is known: %v", s.Changes)
	}
	if got := strings.Join(gates(), " "); got != "demo-cp-2" {
		t.Errorf("waited is for %q", got)
	}
	host.Authentication = "" // not asked
	is.Hosts["demo-cp-2"] = host
	if changes := Diff(want, is); len(changes) > 0 {
		t.Errorf("of what was not asked is known: %v", changes)
	}
}

// TestAnonymousNeedsARestart: an API server refuses to reload a file with another anonymous part, so it is started with it,
// and started again where it may have begun with another.
func TestAnonymousNeedsARestart(t *testing.T) {
	in := fixture.Input(t)
	want := fixture.Desired(t, in)
	for _, c := range stack.Components {
		row := c.Unit
		if row == nil || row.Name != stack.APIServerService {
			continue
		}
		was := row.Partly
		row.Partly = map[string]func() []byte{stack.AuthenticationFile: func() []byte { return []byte("another") }}
		other := fixture.Desired(t, in)
		row.Partly = was
		if want.Hosts["demo-cp-1"].Units[row.Name].Inputs == other.Hosts["demo-cp-1"].Units[row.Name].Inputs {
			t.Error("another anonymous part restarts nothing")
		}
	}
	reads := strings.Join(want.Hosts["demo-cp-1"].Units[stack.APIServerService].Reads, " ")
	if !strings.Contains(reads, stack.AuthenticationFile) {
		t.Errorf("an edit of the authentication file before a start is not known; the API server reads %s", reads)
	}
}
