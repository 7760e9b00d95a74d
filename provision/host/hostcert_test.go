package host_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// certify signs a certificate for a host's key.
func certify(t *testing.T, authority, key ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.HostCert, KeyId: "test", ValidPrincipals: []string{"127.0.0.1"},
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()), //nolint:gosec // not negative
	}
	if change != nil {
		change(cert)
	}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestHostCertificates(t *testing.T) {
	authority, _ := hosttest.NewKey(t)
	other, _ := hosttest.NewKey(t)
	key, _ := hosttest.NewKey(t)
	line := func(marker, hosts string, key ssh.PublicKey) string {
		return strings.TrimSpace(marker + " " + hosts + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
	trusted := line("@cert-authority", "*", authority.PublicKey())
	past := uint64(time.Now().Add(-time.Minute).Unix()) //nolint:gosec // not negative
	for _, test := range []struct {
		name   string
		change func(*ssh.Certificate)
		lines  []string
		alias  string
		// says is a part of the error; empty for none.
		says string
	}{
		{name: "trusted", lines: []string{trusted}},
		{name: "trusted without the port", lines: []string{line("@cert-authority", "127.0.0.*", authority.PublicKey())}},
		{name: "trusted beside another authority", lines: []string{line("@cert-authority", "*", other.PublicKey()), trusted}},
		{name: "trusted though another key is known", lines: []string{trusted, line("", "[127.0.0.1]:*", other.PublicKey())}},
		{name: "by its alias", alias: "node.example", change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"node.example"} }, lines: []string{trusted}},
		{name: "by a pattern", alias: "node.example", change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*.example"} }, lines: []string{trusted}},
		{name: "no authority, known key", lines: []string{line("", "[127.0.0.1]:*", key.PublicKey())}},
		{name: "other authority, known key", lines: []string{line("@cert-authority", "*", other.PublicKey()), line("", "[127.0.0.1]:*", key.PublicKey())}},
		{name: "other authority", lines: []string{line("@cert-authority", "*", other.PublicKey())}, says: "is unknown to"},
		{name: "authority of others", lines: []string{line("@cert-authority", "*.example", authority.PublicKey())}, says: "is unknown to"},
		{name: "other principal", change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{"10.0.0.1"} }, lines: []string{trusted}, says: "not in the set of valid principals"},
		{
			name: "principals that match in many ways, but for the end", alias: strings.Repeat("a", 60),
			change: func(c *ssh.Certificate) { c.ValidPrincipals = []string{strings.Repeat("*?", 30) + "*b"} }, lines: []string{trusted},
			says: "not in the set of valid principals",
		},
		{name: "expired", change: func(c *ssh.Certificate) { c.ValidBefore = past }, lines: []string{trusted}, says: "expired"},
		{name: "of a user", change: func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, lines: []string{trusted}, says: "no certificate of a host"},
		{name: "revoked authority", lines: []string{trusted, line("@revoked", "*", authority.PublicKey())}, says: "known_hosts:2"},
		{name: "revoked key", lines: []string{trusted, line("@revoked", "*", key.PublicKey())}, says: "which is revoked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := hosttest.NewSSHD(t, hosttest.Options{HostKey: key, HostCertificate: certify(t, authority, key, test.change)})
			c := server.Config("cp-1")
			c.HostKeys, c.KnownHosts, c.HostKeyAlias = nil, []string{knownHostsFile(t, test.lines...)}, test.alias
			h, err := host.Dial(t.Context(), c)
			if err == nil {
				_ = h.Close()
			}
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, new(*host.HostKeyError)) {
				t.Fatalf("got %v", err)
			}
			names(t, err, server.Address, c.KnownHosts[0], test.says)
		})
	}
}

// TestForgedHostCertificate: the name of an authority is not its signature.
func TestForgedHostCertificate(t *testing.T) {
	authority, _ := hosttest.NewKey(t)
	other, _ := hosttest.NewKey(t)
	key, _ := hosttest.NewKey(t)
	signed := certify(t, other, key, nil)
	cert, ok := signed.PublicKey().(*ssh.Certificate)
	if !ok {
		t.Fatal("it is no certificate")
	}
	cert.SignatureKey = authority.PublicKey()
	server := hosttest.NewSSHD(t, hosttest.Options{HostKey: key, HostCertificate: signed})
	c := server.Config("cp-1")
	c.HostKeys, c.KnownHosts = nil, []string{knownHostsFile(t, "@cert-authority * "+string(ssh.MarshalAuthorizedKey(authority.PublicKey())))}
	h, err := host.Dial(t.Context(), c)
	if err == nil {
		_ = h.Close()
	}
	var refused *host.HostKeyError
	if !errors.As(err, &refused) || refused.Certificate == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("got %v", err)
	}
}

// TestUserCertificate enters a host that knows only the authority of its users' certificates.
func TestUserCertificate(t *testing.T) {
	authority, _ := hosttest.NewKey(t)
	key, private := hosttest.NewKey(t)
	cert := certify(t, authority, key, func(c *ssh.Certificate) { c.CertType, c.ValidPrincipals = ssh.UserCert, []string{"root"} })
	server := hosttest.NewSSHD(t, hosttest.Options{Client: authority.PublicKey()})
	c := server.Config("cp-1")
	public := string(ssh.MarshalAuthorizedKey(cert.PublicKey()))
	c.Identities = []host.Identity{{Name: "id", Private: private, Public: public}}
	_ = dial(t, c).Close()
	c.Identities, c.Agent = []host.Identity{{Name: "id", Public: public}}, agentWith(t, private)
	_ = dial(t, c).Close()
	c.Identities[0].Public = ""
	if _, err := host.Dial(t.Context(), c); err == nil {
		t.Error("connected with an identity without a key")
	}
}
