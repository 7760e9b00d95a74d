package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

func knownHostsFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKnownHosts(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	key, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	other, _ := hosttest.NewKey(t)
	line := func(key ssh.PublicKey) string { return knownhosts.Line([]string{server.Address}, key) }
	good := knownHostsFile(t, line(key))
	empty := knownHostsFile(t)
	changed := knownHostsFile(t, "# ours", line(other.PublicKey()))
	revoked := knownHostsFile(t, line(key), "@revoked * "+server.HostKey)
	trust := func(got string) error {
		if got != server.HostKey {
			t.Errorf("asked for %s", got)
		}
		return nil
	}
	authority := "@cert-authority " + line(ecdsaKey(t))
	claims := knownHostsFile(t, "@cert-authority "+line(key))
	const none = "/no/such/file"
	for _, test := range []struct {
		name  string
		files []string
		trust func(string) error
		// What the error has; it is nil if source is empty.
		source  string
		wants   int
		revoked bool
	}{
		{name: "known", files: []string{good}},
		{name: "known to the second file", files: []string{none, empty, good}},
		{name: "hashed", files: []string{knownHostsFile(t, knownhosts.HashHostname(knownhosts.Normalize(server.Address))+" "+server.HostKey)}},
		{name: "known among other types", files: []string{knownHostsFile(t, line(ecdsaKey(t)), line(key))}},
		{name: "other key", files: []string{empty, changed}, source: changed + ":2", wants: 1},
		{name: "other key of another type", files: []string{knownHostsFile(t), knownHostsFile(t, line(ecdsaKey(t)))}, source: "known_hosts:1", wants: 1},
		{name: "unknown", files: []string{empty, knownHostsFile(t, knownhosts.Line([]string{"elsewhere"}, key))}, source: empty + " and "},
		{name: "no file", files: []string{none}, source: none},
		{name: "known, beside a CA", files: []string{knownHostsFile(t, authority, line(key))}},
		{name: "a CA's key", files: []string{claims}, source: claims},
		{name: "a CA's key, and another key", files: []string{claims, changed}, source: changed + ":2", wants: 1},
		{name: "unknown but for a CA, trusted", files: []string{knownHostsFile(t, authority)}, trust: trust},
		{name: "revoked", files: []string{revoked}, source: revoked + ":2", revoked: true},
		{name: "unknown, trusted", files: []string{empty}, trust: trust},
		{name: "no file, trusted", files: []string{none}, trust: trust},
		{name: "no files, trusted", trust: trust},
		{name: "other key, trusted", files: []string{changed}, trust: trust, source: changed + ":2", wants: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := server.Config("cp-1")
			c.HostKeys, c.KnownHosts, c.TrustOnFirstUse = nil, test.files, test.trust
			h, err := host.Dial(t.Context(), c)
			if err == nil {
				_ = h.Close()
			}
			if test.source == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var wrong *host.HostKeyError
			if !errors.As(err, &wrong) || len(wrong.Want) != test.wants || !strings.Contains(wrong.Source, test.source) || wrong.Revoked != test.revoked {
				t.Fatalf("got %v", err)
			}
			names(t, err, server.Address, wrong.Source, wrong.Got)
		})
	}
}

// TestPinnedKeysAlone: where a key is pinned, no file has a say.
func TestPinnedKeysAlone(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	c := server.Config("cp-1")
	key, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	c.HostKeys, c.KnownHosts = []string{publicLine(t)}, []string{knownHostsFile(t, knownhosts.Line([]string{server.Address}, key))}
	_, err := host.Dial(t.Context(), c)
	var wrong *host.HostKeyError
	if !errors.As(err, &wrong) || wrong.Source != host.SourcePinned {
		t.Errorf("got %v", err)
	}
}

func TestUnverifiable(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	broken := knownHostsFile(t, "nonsense")
	for name, files := range map[string][]string{"nothing to verify the host by": nil, "a broken file": {broken}} {
		c := server.Config("cp-1")
		c.HostKeys, c.KnownHosts = nil, files
		if _, err := host.Dial(t.Context(), c); err == nil {
			t.Errorf("%s: connected", name)
		} else {
			names(t, err, files...)
		}
	}
	if n := server.Accepted(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
