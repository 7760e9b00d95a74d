package host_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/testing/hosttest"
)

// TestOrderOfKeys is that of ssh(1), and no key is offered twice.
func TestOrderOfKeys(t *testing.T) {
	public, private := map[string]string{}, map[string]secret.Bytes{}
	name := map[string]string{}
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		signer, key := hosttest.NewKey(t)
		public[n], private[n] = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), key
		name[public[n]] = n
	}
	id := func(n string) host.Identity { return host.Identity{Name: n, Private: private[n], Public: public[n]} }
	only := func(n string) host.Identity { return host.Identity{Name: n, Public: public[n]} }
	identities := []host.Identity{id("a"), id("b"), only("c"), only("e")}
	for what, test := range map[string]struct {
		agent []secret.Bytes
		only  bool
		want  string
		lacks string
	}{
		"no agent":                       {nil, false, "a b", "c, e"},
		"agent":                          {[]secret.Bytes{private["d"], private["c"], private["b"]}, false, "b c d a", "e"},
		"agent, but for identities only": {[]secret.Bytes{private["d"], private["c"], private["b"]}, true, "b c a", "e"},
	} {
		server := hosttest.NewSSHD(t, hosttest.Options{RefuseKeys: true})
		c := server.Config("cp-1")
		c.User, c.Identities, c.IdentitiesOnly = "ops", append(identities, identities...), test.only
		if test.agent != nil {
			c.Agent = agentWith(t, test.agent...)
		}
		_, err := host.Dial(t.Context(), c)
		var refused *host.AuthError
		if !errors.As(err, &refused) {
			t.Fatalf("%s: got %v", what, err)
		}
		var offered []string
		for _, key := range server.Offered() {
			offered = append(offered, name[key])
		}
		if got := strings.Join(offered, " "); got != test.want {
			t.Errorf("%s: offered %s, want %s", what, got, test.want)
		}
		names(t, err, server.Address, `"ops"`, "(a)", "only the public key of "+test.lacks)
	}
}

// TestWrongUser: the user is part of the error, which comes at once.
func TestWrongUser(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{User: "core"})
	c := server.Config("cp-1")
	c.User = "ubuntu"
	_, err := host.Dial(t.Context(), c)
	if !errors.As(err, new(*host.AuthError)) || server.Accepted() != 1 {
		t.Fatalf("got %v", err)
	}
	names(t, err, server.Address, `user "ubuntu"`)
}

// TestAgentWithoutTheKey: an identity that only an agent could use is named.
func TestAgentWithoutTheKey(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	c := server.Config("cp-1")
	_, other := hosttest.NewKey(t)
	c.Identities, c.IdentitiesOnly = []host.Identity{{Name: "~/.ssh/id_ops", Public: publicLine(t)}}, true
	c.Agent = agentWith(t, other)
	_, err := host.Dial(t.Context(), c)
	if !errors.As(err, new(*host.AgentError)) || server.Accepted() != 0 {
		t.Fatalf("got %v", err)
	}
	names(t, err, "~/.ssh/id_ops", c.Agent)
}

func TestTooManyKeys(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{MaxAuthTries: 2})
	c := server.Config("cp-1")
	for range 4 {
		c.Identities = append(newIdentity(t), c.Identities...)
	}
	_, err := host.Dial(t.Context(), c)
	var refused *host.AuthError
	if !errors.As(err, &refused) || !refused.TooMany || server.Accepted() != 1 {
		t.Fatalf("got %v", err)
	}
	names(t, err, "takes no more keys", "any of 5 keys")
}

// asker answers questions, and notes them.
type asker struct {
	mu      sync.Mutex
	asked   []string
	answers []string
	err     error
}

func (a *asker) ask(_ context.Context, question string) (secret.Bytes, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, question)
	if a.err != nil {
		return nil, a.err
	}
	answer := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	return secret.Bytes(answer), nil
}

// encrypted makes a key with a passphrase: as a signer, and as PEM.
func encrypted(t *testing.T, kind, passphrase string) (ssh.PublicKey, secret.Bytes) {
	t.Helper()
	var private any
	var err error
	if kind == "rsa" {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer.PublicKey(), pem.EncodeToMemory(block)
}

// TestPassphrase: it is asked for only if the host accepts the key, and once for all hosts.
func TestPassphrase(t *testing.T) {
	t.Parallel() // it waits most of the time
	for _, kind := range []string{"ed25519", "rsa"} {
		public, private := encrypted(t, kind, "open sesame")
		first, second := hosttest.NewSSHD(t, hosttest.Options{Client: public}), hosttest.NewSSHD(t, hosttest.Options{Client: public})
		stranger := hosttest.NewSSHD(t, hosttest.Options{})
		a := &asker{answers: []string{"wrong", "open sesame"}}
		config := func(s *hosttest.SSHD, shared *host.Shared) host.Config {
			c := s.Config("cp-1")
			c.Identities, c.Secret, c.Shared = []host.Identity{{Name: "id_ops", Private: private}}, a.ask, shared
			return c
		}
		shared := new(host.Shared)
		if _, err := host.Dial(t.Context(), config(stranger, shared)); !errors.As(err, new(*host.AuthError)) || len(a.asked) != 0 {
			t.Errorf("%s: the key does not fit: %v, asked %q", kind, err, a.asked)
		}
		var dials sync.WaitGroup
		for range 4 {
			for _, s := range []*hosttest.SSHD{first, second} {
				dials.Go(func() {
					h, err := host.Dial(t.Context(), config(s, shared))
					if err != nil {
						t.Error(err)
						return
					}
					_ = h.Close()
				})
			}
		}
		dials.Wait()
		if want := []string{"Passphrase of the SSH key id_ops", "Wrong. Passphrase of the SSH key id_ops"}; !slices.Equal(a.asked, want) {
			t.Errorf("%s: asked %q", kind, a.asked)
		}
	}
}

func TestPassphraseFails(t *testing.T) {
	t.Parallel() // it waits most of the time
	public, private := encrypted(t, "ed25519", "open sesame")
	server := hosttest.NewSSHD(t, hosttest.Options{Client: public})
	cause := errors.New("there is no terminal")
	for name, test := range map[string]struct {
		asker *asker
		says  string
		asked int
	}{
		"wrong":         {&asker{answers: []string{"guess"}}, "none of 3 passphrases fits the key id_ops", 3},
		"nobody to ask": {nil, "there is nobody to ask", 0},
		"not answered":  {&asker{err: cause}, cause.Error(), 1},
	} {
		c := server.Config("cp-1")
		c.Identities, c.Shared = []host.Identity{{Name: "id_ops", Private: private}}, new(host.Shared)
		if test.asker != nil {
			c.Secret = test.asker.ask
		}
		for range 2 {
			_, err := host.Dial(t.Context(), c)
			var failed *host.PassphraseError
			if !errors.As(err, &failed) || failed.File != "id_ops" || failed.Host != "cp-1" {
				t.Fatalf("%s: got %v", name, err)
			}
			names(t, err, "id_ops", test.says)
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), "guess") {
				t.Errorf("%s: the passphrase is printed: %v", name, err)
			}
		}
		if test.asker != nil && len(test.asker.asked) != test.asked {
			t.Errorf("%s: asked %q", name, test.asker.asked)
		}
	}
}

// TestSlowPerson: the time in which a person types is not the host's, even if the host loses patience.
func TestSlowPerson(t *testing.T) {
	t.Parallel() // it waits most of the time
	public, private := encrypted(t, "ed25519", "open sesame")
	for name, lose := range map[string]bool{"patient host": false, "impatient host": true} {
		server := hosttest.NewSSHD(t, hosttest.Options{Client: public})
		c := server.Config("cp-1")
		c.ConnectTimeout, c.Shared = 2*time.Second, new(host.Shared)
		c.Identities = []host.Identity{{Private: private}}
		c.Secret = func(context.Context, string) (secret.Bytes, error) {
			if lose {
				server.Drop()
			}
			time.Sleep(c.ConnectTimeout + 100*time.Millisecond) // a person
			return secret.Bytes("open sesame"), nil
		}
		h, err := host.Dial(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = h.Close()
	}
}

// TestOldKeyFormat is a key that does not say what its public half is before it is decrypted.
func TestOldKeyFormat(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := oldFormat(t, private, "open sesame")
	server := hosttest.NewSSHD(t, hosttest.Options{Client: public})
	a := &asker{answers: []string{"open sesame"}}
	c := server.Config("cp-1")
	c.Identities, c.Secret = []host.Identity{{Name: "id_rsa", Private: block}}, a.ask
	_ = dial(t, c).Close()
	if len(a.asked) != 1 || !bytes.Contains(block, []byte("ENCRYPTED")) {
		t.Errorf("asked %q", a.asked)
	}
}

// oldFormat encrypts a key as RFC 1421 did.
func oldFormat(t *testing.T, key *rsa.PrivateKey, passphrase string) secret.Bytes {
	t.Helper()
	//nolint:staticcheck // SA1019: people have such keys
	block, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte(passphrase), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}
