package host_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
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
	c := server.Config("cp-1")
	c.HostKeys = nil
	if _, err := host.Dial(t.Context(), c); err == nil {
		t.Error("connected with nothing to verify the host by")
	} else {
		names(t, err, "neither host keys nor a known_hosts file")
	}
	c.KnownHosts = []string{t.TempDir()}
	if _, err := host.Dial(t.Context(), c); err == nil {
		t.Error("connected with a file that cannot be read")
	} else {
		names(t, err, c.KnownHosts[0])
	}
	if n := server.Accepted(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestMalformedLines: a line that cannot be read keeps out no machine that it is not about, and is named where it may be why.
func TestMalformedLines(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	key, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	line := knownhosts.Line([]string{server.Address}, key)
	bad := []string{"nonsense", "host ssh-ed25519", "host ssh-rsa " + strings.Fields(server.HostKey)[1], "@ours " + line, "|1|x " + server.HostKey, "|2|eA==|eA== " + server.HostKey}
	c := server.Config("cp-1")
	var said []string
	c.HostKeys, c.KnownHosts, c.Report = nil, []string{knownHostsFile(t, append(bad, line)...)}, func(what string) { said = append(said, what) }
	c.Shared = new(host.Shared)
	for range 2 {
		_ = dial(t, c).Close()
	}
	if len(said) != len(bad) || !strings.Contains(said[0], c.KnownHosts[0]+":1: it is one word") {
		t.Errorf("reported %q", said)
	}
	c.KnownHosts = []string{knownHostsFile(t, bad...)}
	_, err := host.Dial(t.Context(), c)
	var unknown *host.HostKeyError
	if !errors.As(err, &unknown) || len(unknown.Want) != 0 || len(unknown.Ignored) != len(bad) {
		t.Fatalf("got %v", err)
	}
	names(t, err, c.KnownHosts[0]+":1", c.KnownHosts[0]+":6")
}

// TestNamesInKnownHosts: a host is found by the names that OpenSSH writes and reads.
func TestNamesInKnownHosts(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	hashed := knownhosts.HashHostname
	_, port, _ := net.SplitHostPort(server.Address)
	for _, test := range []struct {
		names, alias string
		known        bool
	}{
		{"[127.0.0.1]:" + port, "", true},
		{"other,[127.0.0.1]:" + port + ",more", "", true},
		{"[127.0.0.*]:" + port, "", true},
		{"[127.0.0.?]:*", "", true},
		{"*", "", true},
		{"!*.5,*", "", true},
		{"*,![127.0.0.1]:*", "", false},
		{"127.0.0.1", "", false},
		{"[127.0.0.1]:1", "", false},
		{"[127.0.0.1]:" + port, "node-1", false},
		{"node-1", "node-1", true},
		{"NODE-1", "node-1", true},
		{"[node-1]:22", "node-1", true},
		{"node-?", "node-1", true},
		{"node-", "node-1", false},
		{"*-1", "node-1", true},
		{"n*d*1", "node-1", true},
		{"n*d*2", "node-1", false},
		{hashed("node-1"), "node-1", true},
		{hashed("node-2"), "node-1", false},
	} {
		c := server.Config("cp-1")
		c.HostKeys, c.KnownHosts, c.HostKeyAlias = nil, []string{knownHostsFile(t, test.names+" "+server.HostKey)}, test.alias
		h, err := host.Dial(t.Context(), c)
		if err == nil {
			_ = h.Close()
		}
		if known := err == nil; known != test.known {
			t.Errorf("%q for %q: %v", test.names, test.alias, err)
		}
	}
}

// TestRemedyOfAChangedKey: the command that the error names removes the line, and nothing else.
func TestRemedyOfAChangedKey(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip(err)
	}
	server := hosttest.NewSSHD(t, hosttest.Options{})
	other, _ := hosttest.NewKey(t)
	keep := "elsewhere " + server.HostKey
	c := server.Config("cp-1")
	c.HostKeys, c.KnownHosts = nil, []string{knownHostsFile(t, keep, knownhosts.Line([]string{server.Address}, other.PublicKey()))}
	_, err := host.Dial(t.Context(), c)
	var changed *host.HostKeyError
	if !errors.As(err, &changed) {
		t.Fatalf("got %v", err)
	}
	names(t, err, c.KnownHosts[0]+":2", changed.Remedy, changed.Got, changed.Want[0])
	if out, err := exec.Command("sh", "-c", changed.Remedy).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", changed.Remedy, err, out)
	}
	if text, err := os.ReadFile(c.KnownHosts[0]); err != nil || strings.TrimSpace(string(text)) != keep {
		t.Errorf("it leaves %q, %v", text, err)
	}
}
