package provision

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var provider = map[string]any{
	"issuer":        map[string]any{"url": "https://login.example.com", "audiences": []any{"kubernetes"}},
	"claimMappings": map[string]any{"username": map[string]any{"claim": "sub", "prefix": "oidc:"}},
}

// TestAuthenticationIsReloaded: an identity provider restarts nothing, and each API server is waited for. It stays known that
// one has not taken the file, although the file is there.
func TestAuthenticationIsReloaded(t *testing.T) {
	in := input(t)
	was := desired(t, in)
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
	in.Cluster.Spec.Kubernetes.APIServer.Authentication.JWT = []map[string]any{provider}
	want := desired(t, in)
	text := want.Hosts["demo-cp-1"].Files[authenticationFile].Content
	if !bytes.Contains(text, []byte("url: https://login.example.com")) || !bytes.Contains(text, []byte("path: /livez")) {
		t.Errorf("the file is:\n%s", text)
	}
	changes := Diff(want, was)
	for _, c := range changes {
		if c.Kind == UnitChange || c.Name != authenticationFile && !c.Bookkeeping() {
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

	is := desired(t, in)
	host := is.Hosts["demo-cp-2"]
	host.Authentication = configHash(was.Hosts["demo-cp-2"].Files[authenticationFile].Content)
	is.Hosts["demo-cp-2"] = host
	s.Changes = Diff(want, is)
	if len(s.Changes) != 1 || s.Changes[0].Action != Await || s.Changes[0].Name != apiServerService {
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
	in := input(t)
	want := desired(t, in)
	for i := range unitTable {
		row := &unitTable[i]
		if row.name != apiServerService {
			continue
		}
		was := row.partly
		row.partly = map[string]func() []byte{authenticationFile: func() []byte { return []byte("another") }}
		other := desired(t, in)
		row.partly = was
		if want.Hosts["demo-cp-1"].Units[row.name].Inputs == other.Hosts["demo-cp-1"].Units[row.name].Inputs {
			t.Error("another anonymous part restarts nothing")
		}
	}
	reads := strings.Join(want.Hosts["demo-cp-1"].Units[apiServerService].Reads, " ")
	if !strings.Contains(reads, authenticationFile) {
		t.Errorf("an edit of the authentication file before a start is not known; the API server reads %s", reads)
	}
}
