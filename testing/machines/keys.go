package machines

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Key is an SSH key of the operator, of a machine or of an authority.
type Key struct {
	private ed25519.PrivateKey
	signer  ssh.Signer
}

// NewKey makes an Ed25519 key.
func NewKey(t testing.TB) Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return Key{private, signer}
}

// Public is the key as in authorized_keys, without a newline.
func (k Key) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// PEM is the private key in OpenSSH's format.
func (k Key) PEM(t testing.TB) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(k.private, "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

// Encrypted is the private key in OpenSSH's format, encrypted with a passphrase.
func (k Key) Encrypted(t testing.TB, passphrase string) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(k.private, "", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

// certify is a host certificate for the key, valid for these names.
func (k Key) certify(t testing.TB, authority Key, names []string) string {
	t.Helper()
	cert := &ssh.Certificate{
		Key: k.signer.PublicKey(), CertType: ssh.HostCert, KeyId: names[0], ValidPrincipals: names,
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(24 * time.Hour).Unix()),
	}
	if err := cert.SignCert(rand.Reader, authority.signer); err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(cert))
}

// Agent serves an SSH agent with these keys on a socket, whose path it returns, until the test ends.
func Agent(t testing.TB, keys ...Key) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k.private}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent-") // a test's own directory could have too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				_ = agent.ServeAgent(ring, conn) // until the client has had enough
				_ = conn.Close()
			}()
		}
	})
	t.Cleanup(func() {
		err := listener.Close()
		serving.Wait()
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return path
}
