package delivery

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
)

// Key is a key pair for one run. It is ECDSA P-256, which hosts in FIPS mode accept too.
type Key struct {
	// Private is PEM in OpenSSH's format.
	Private secret.Bytes
	// Public is in authorized_keys format.
	Public string
}

// NewKey makes a key pair.
func NewKey() (Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return Key{}, err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return Key{}, err
	}
	return Key{pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))}, nil
}
