package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// load reads a leaf's certificate and key and checks that they belong together.
func load(item Item) (*x509.Certificate, crypto.Signer, error) {
	certs, err := Parse(item.Cert)
	if err != nil {
		return nil, nil, err
	}
	if len(certs) != 1 {
		return nil, nil, fmt.Errorf("%w: %d certificates, expected one", ErrMalformed, len(certs))
	}
	key, err := keyFor(certs[0], item)
	return certs[0], key, err
}

// issuer is a CA that leaves are compared with, and that signs them if its key is available.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer // nil for an external CA
	end  time.Time     // the earliest end of the CA and its parents
}

// loadAuthority is load for a CA, which may be followed by its parents, each the issuer of the
// previous one. The key may only be missing if elsewhere is true.
func loadAuthority(item Item, elsewhere bool) (*issuer, error) {
	chain, err := Parse(item.Cert)
	if err != nil {
		return nil, err
	}
	by := &issuer{cert: chain[0], end: chain[0].NotAfter}
	for i, parent := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(parent); err != nil {
			return nil, fmt.Errorf("%w: certificate %d of its chain did not sign the previous one: %w", ErrMalformed, i+2, err)
		}
		if parent.NotAfter.Before(by.end) {
			by.end = parent.NotAfter
		}
	}
	switch {
	case len(item.Key) > 0:
		by.key, err = keyFor(by.cert, item)
	case !elsewhere:
		err = ErrNoKey
	}
	return by, err
}

func keyFor(cert *x509.Certificate, item Item) (crypto.Signer, error) {
	key, err := parseKey(item.Key.Reveal())
	if err != nil {
		return nil, err
	}
	if !equalKeys(key.Public(), cert.PublicKey) {
		return nil, ErrKeyMismatch
	}
	return key, nil
}

// checkKeyPair is load for items without a certificate.
func checkKeyPair(item Item) error {
	block, _ := pem.Decode(item.Cert)
	if block == nil || block.Type != "PUBLIC KEY" {
		return fmt.Errorf("%w: the public key is not a PEM block of type PUBLIC KEY", ErrMalformed)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%w: public key: %w", ErrMalformed, err)
	}
	key, err := parseKey(item.Key.Reveal())
	if err != nil {
		return err
	}
	if !equalKeys(key.Public(), pub) {
		return ErrKeyMismatch
	}
	return nil
}

// equalKeys compares public keys. All public keys of the standard library have Equal.
func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// encode is the inverse of Parse.
func encode(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// selfSigned reports whether a CA is a root.
func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
}

// keyBlock returns the only PEM block of a private key. OpenSSL may write the parameters of its
// curve before it.
func keyBlock(data []byte) (*pem.Block, error) {
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: the private key is not one PEM block", ErrMalformed)
	}
	return block, nil
}

// parseKey reads one PEM private key: PKCS#1, SEC 1 or PKCS#8.
func parseKey(data []byte) (crypto.Signer, error) {
	block, err := keyBlock(data)
	if err != nil {
		return nil, err
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, errEncrypted)
	}
	var key any
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: private keys of type %q are not supported", ErrMalformed, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrMalformed, err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: a private key of type %T cannot sign", ErrMalformed, key)
	}
	return s, nil
}

var errEncrypted = errors.New("the private key is encrypted")
