package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/log"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"

	"slipway.dev/slipway/provision/secret"
)

// cfssl logs to stderr. Everything relevant is also in its errors.
func init() { log.Level = log.LevelCritical }

// issue makes a key and a certificate for it. Without a parent, the certificate is self-signed.
func issue(q Request, p Policy, parent *issuer, now time.Time) (Item, error) {
	key, keyPEM, err := NewKey(p.keyOf(q))
	if err != nil {
		return Item{}, itemError(q.Name, err)
	}
	csrPEM, err := csr.Generate(key, signingRequest(q, p))
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("make a signing request: %w", err))
	}
	if parent == nil {
		parent = &issuer{key: key}
	}
	cert, err := sign(q, p, parent, csrPEM, now)
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("sign: %w", err))
	}
	return Item{Cert: cert, Key: keyPEM}, nil
}

// NewKey makes a private key and its PEM: PKCS#1 for RSA and SEC 1 for ECDSA, as in kubeadm, PKCS#8
// for Ed25519.
func NewKey(k KeyAlgorithm) (crypto.Signer, secret.Bytes, error) {
	private, err := (&csr.KeyRequest{A: cfsslKey[k].algo, S: cfsslKey[k].size}).Generate()
	if err != nil {
		return nil, nil, fmt.Errorf("make a private key: %w", err)
	}
	var block pem.Block
	switch key := private.(type) {
	case *rsa.PrivateKey:
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)
	case *ecdsa.PrivateKey:
		block.Type = "EC PRIVATE KEY"
		block.Bytes, err = x509.MarshalECPrivateKey(key)
	default:
		block.Type = "PRIVATE KEY"
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode a private key: %w", err)
	}
	return private.(crypto.Signer), pem.EncodeToMemory(&block), nil //nolint:forcetypeassert // all of them sign
}

// signingRequest returns a signing request without the usages.
func signingRequest(q Request, p Policy) *csr.CertificateRequest {
	r := &csr.CertificateRequest{CN: q.CommonName, Hosts: append([]string{}, q.DNSNames...)}
	for _, o := range q.Organizations {
		r.Names = append(r.Names, csr.Name{O: o})
	}
	for _, v := range p.Subject.OrganizationalUnits {
		r.Names = append(r.Names, csr.Name{OU: v})
	}
	for _, v := range p.Subject.Countries {
		r.Names = append(r.Names, csr.Name{C: v})
	}
	for _, v := range p.Subject.Provinces {
		r.Names = append(r.Names, csr.Name{ST: v})
	}
	for _, v := range p.Subject.Localities {
		r.Names = append(r.Names, csr.Name{L: v})
	}
	r.Hosts = append(r.Hosts, texts(q.IPs)...)
	return r
}

// sign turns a signing request into a certificate.
func sign(q Request, p Policy, parent *issuer, csrPEM []byte, now time.Time) ([]byte, error) {
	profile := &config.SigningProfile{
		Usage:        keyUsages(q, p.keyOf(q)),
		Expiry:       p.Lifetime(q),
		CAConstraint: config.CAConstraint{IsCA: q.Kind == Authority, MaxPathLenZero: true},
	}
	begin := now.UTC().Add(-Backdated(p.CAValidity)).Truncate(time.Second)
	end := begin.Add(p.CAValidity)
	if q.Kind == Leaf {
		begin = leafBegin(now, p.Lifetime(q), parent)
		end = leafEnd(begin, p.Lifetime(q), parent)
	}
	s, err := local.NewSigner(parent.key, parent.cert, signer.DefaultSigAlgo(parent.key), &config.Signing{Default: profile})
	if err != nil {
		return nil, err
	}
	return s.Sign(signer.SignRequest{Request: string(csrPEM), NotBefore: begin, NotAfter: end})
}

// leafBegin returns the start of validity of a leaf that is issued now: backdated a little, but not
// to before its CA's start.
func leafBegin(now time.Time, lifetime time.Duration, by *issuer) time.Time {
	begin := now.UTC().Add(-Backdated(lifetime)).Truncate(time.Second)
	if begin.Before(by.cert.NotBefore) {
		return by.cert.NotBefore
	}
	return begin
}

// leafEnd returns the end of validity of a leaf that begins at a given time: never after its CA's
// end.
func leafEnd(begin time.Time, lifetime time.Duration, by *issuer) time.Time {
	end := begin.Add(lifetime)
	if end.After(by.end) {
		return by.end
	}
	return end
}

// keyUsages returns cfssl's names of usages (config.KeyUsage, config.ExtKeyUsage). Only RSA keys
// can encipher keys.
func keyUsages(q Request, k KeyAlgorithm) []string {
	usages := []string{"digital signature"}
	if q.Kind == Authority {
		return append(usages, "cert sign", "crl sign")
	}
	if cfsslKey[k].algo == "rsa" {
		usages = append(usages, "key encipherment")
	}
	for _, u := range purposes {
		if q.Usages&u.ours != 0 {
			usages = append(usages, u.cfssl)
		}
	}
	return usages
}

// newKeyPair makes a private and a public key, in the formats of kubeadm's sa.key and sa.pub.
func newKeyPair(q Request, p Policy) (Item, error) {
	key, keyPEM, err := NewKey(p.keyOf(q))
	if err != nil {
		return Item{}, itemError(q.Name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("encode public key: %w", err))
	}
	return Item{Cert: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), Key: keyPEM}, nil
}
