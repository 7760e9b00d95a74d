package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/log"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
)

// cfssl writes what it does to stderr. All that matters of it comes back as errors.
func init() { log.Level = log.LevelCritical }

// issuer is an authority ready to sign.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a key and a certificate for it. Without a parent the certificate signs itself.
func issue(q Request, p Policy, parent *issuer, now time.Time) (Item, error) {
	k := cfsslKey[p.KeyAlgorithm]
	request := &csr.CertificateRequest{
		CN:         q.CommonName,
		Hosts:      append([]string{}, q.DNSNames...),
		KeyRequest: &csr.KeyRequest{A: k.algo, S: k.size},
	}
	for _, o := range q.Organizations {
		request.Names = append(request.Names, csr.Name{O: o})
	}
	for _, ip := range q.IPs {
		request.Hosts = append(request.Hosts, ip.String())
	}
	csrPEM, keyPEM, err := csr.ParseRequest(request)
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("make key and request: %w", err))
	}
	if parent == nil {
		key, err := parseKey(keyPEM)
		if err != nil {
			return Item{}, itemError(q.Name, err)
		}
		parent = &issuer{key: key}
	}
	notBefore := now.UTC().Truncate(time.Second).Add(-backdate)
	cert, err := sign(q, p, parent, csrPEM, notBefore)
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("sign: %w", err))
	}
	return Item{Cert: cert, Key: keyPEM}, nil
}

// sign turns a certificate request into a certificate.
func sign(q Request, p Policy, parent *issuer, csrPEM []byte, notBefore time.Time) ([]byte, error) {
	profile := &config.SigningProfile{
		Usage:        keyUsages(q, p.KeyAlgorithm),
		Expiry:       p.LeafValidity,
		CAConstraint: config.CAConstraint{IsCA: q.Kind == Authority, MaxPathLenZero: true},
	}
	end := notBefore.Add(p.CAValidity)
	if q.Kind == Leaf {
		end = leafEnd(notBefore, p, parent.cert)
	}
	s, err := local.NewSigner(parent.key, parent.cert, signer.DefaultSigAlgo(parent.key), &config.Signing{Default: profile})
	if err != nil {
		return nil, err
	}
	return s.Sign(signer.SignRequest{Request: string(csrPEM), NotBefore: notBefore, NotAfter: end})
}

// leafEnd is when a leaf that begins at notBefore ends: never after its authority.
func leafEnd(notBefore time.Time, p Policy, ca *x509.Certificate) time.Time {
	end := notBefore.Add(p.LeafValidity)
	if end.After(ca.NotAfter) {
		return ca.NotAfter
	}
	return end
}

// keyUsages are cfssl's words (config.KeyUsage, config.ExtKeyUsage). Only RSA keys can encipher keys.
func keyUsages(q Request, k KeyAlgorithm) []string {
	usages := []string{"digital signature"}
	if q.Kind == Authority {
		return append(usages, "cert sign", "crl sign")
	}
	if cfsslKey[k].algo == "rsa" {
		usages = append(usages, "key encipherment")
	}
	if q.Usages&ClientAuth != 0 {
		usages = append(usages, "client auth")
	}
	if q.Usages&ServerAuth != 0 {
		usages = append(usages, "server auth")
	}
	return usages
}

// newKeyPair makes a key and its public half, in kubeadm's form of sa.key and sa.pub.
func newKeyPair(q Request, p Policy) (Item, error) {
	k := cfsslKey[p.KeyAlgorithm]
	_, keyPEM, err := csr.ParseRequest(&csr.CertificateRequest{CN: q.Name, KeyRequest: &csr.KeyRequest{A: k.algo, S: k.size}})
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("make key: %w", err))
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return Item{}, itemError(q.Name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("encode public key: %w", err))
	}
	return Item{Cert: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), Key: keyPEM}, nil
}

// parseKey reads one PEM private key: PKCS#1, SEC 1 or PKCS#8.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: the private key is not one PEM block", ErrMalformed)
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: %q is no kind of private key that can be used", ErrMalformed, block.Type)
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
