package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
)

// Files that the controller manager reads beside those of the table.
const (
	// RootCAFile is what pods get as kube-root-ca.crt: the kubernetes authority with its parents.
	RootCAFile = pkiDir + "root-ca.crt"
	// SignerFile is the one certificate that --cluster-signing-cert-file takes; only where PKI.Signs.
	SignerFile = pkiDir + "signer.crt"
)

// Bundle is whom a component trusts for an authority, PEM. It is the authority alone, never its parents: with these,
// every certificate that the company's root has signed could be an administrator's. Go verifies up to any certificate
// that it is told to trust, whether that signed itself or not. While a rotation wants it, it is two authorities, the one
// that is in use first. Of a KeyPair it is the public keys.
func (p *PKI) Bundle(name string) []byte {
	var bundle []byte
	for _, item := range p.trusted(name) {
		bundle = append(bundle, item.First()...)
	}
	return bundle
}

// Chain is the authority with its parents, PEM: what clients are told to trust that verify a server. Those that use
// OpenSSL want a root. While a rotation wants it, it is two of them.
func (p *PKI) Chain(authority string) []byte {
	var chain []byte
	for _, item := range p.trusted(authority) {
		chain = append(chain, item.Cert...)
	}
	return chain
}

// Bundles are all that Bundle can give at any stage of the rotation that is under way.
func (p *PKI) Bundles(name string) [][]byte {
	used := p.Material[name].First()
	other, ok := p.Other[name]
	if !ok {
		return [][]byte{used}
	}
	return [][]byte{used, other.First(), slices.Concat(used, other.First()), slices.Concat(other.First(), used)}
}

// TrustedKeys are the fingerprints of the public keys of those that Bundle has of an authority. A renewed certificate has
// the one of before.
func (p *PKI) TrustedKeys(authority string) []string {
	var keys []string
	for _, item := range p.trusted(authority) {
		keys = append(keys, item.fingerprint())
	}
	return keys
}

// KnownKeys are the TrustedKeys of all stages of the rotation that is under way.
func (p *PKI) KnownKeys(authority string) []string {
	keys := []string{p.Material[authority].fingerprint()}
	if other, ok := p.Other[authority]; ok {
		keys = append(keys, other.fingerprint())
	}
	if p.Rotation != nil {
		keys = append(keys, p.Rotation.Former[authority]...)
	}
	return keys
}

// fingerprint is the SHA-256 of an authority's public key (SubjectPublicKeyInfo, DER) in hexadecimal; "" where there is none
// to read.
func (i Item) fingerprint() string {
	certs, err := Parse(i.Cert)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(certs[0].RawSubjectPublicKeyInfo))
}

// trusted are the item that is in use, and another that a rotation has everything trust.
func (p *PKI) trusted(name string) []Item {
	items := []Item{p.Material[name]}
	if other, ok := p.Other[name]; ok && p.Rotation.TrustsBoth() {
		items = append(items, other)
	}
	return items
}

// First is the item's own certificate, without parents; of a KeyPair the public key.
func (i Item) First() []byte {
	certs, err := Parse(i.Cert)
	if err != nil {
		return i.Cert
	}
	return encode(certs[0])
}

// Signs tells whether the key of an authority is here.
func (p *PKI) Signs(authority string) bool { return len(p.Material[authority].Key) > 0 }

// forControllerManager are the files of the kubernetes authority in the forms that only the controller manager wants.
func (p *PKI) forControllerManager() []File {
	files := []File{{Path: RootCAFile, Mode: 0o644, Content: p.Chain(KubernetesCA)}}
	if p.Signs(KubernetesCA) {
		files = append(files, File{Path: SignerFile, Mode: 0o644, Content: p.Material[KubernetesCA].First()})
	}
	return files
}

// shown is what hosts get of an authority, worked out once for all of them.
type shown struct {
	bundle  []byte
	cert    *x509.Certificate // nil where there is none to read
	between []byte            // the authorities from this one up to a root, without it; none for a root
}

func (p *PKI) shown() map[string]shown {
	all := map[string]shown{}
	for _, q := range p.Requests {
		chain, err := Parse(p.Material[q.Name].Cert)
		if q.Kind != Authority || err != nil {
			continue
		}
		s := shown{bundle: p.Bundle(q.Name), cert: chain[0]}
		for _, c := range chain {
			if !selfSigned(c) {
				s.between = append(s.between, encode(c)...)
			}
		}
		all[q.Name] = s
	}
	return all
}

// presents is what the holder of a leaf shows to peers, PEM: the leaf, and the authorities between it and a root, so that
// those who trust the root alone can follow.
func (s shown) presents(leaf []byte) []byte {
	certs, err := Parse(leaf)
	if len(s.between) == 0 || err != nil || !issued(s.cert, certs[0]) {
		return leaf
	}
	return slices.Concat(leaf, s.between)
}

// issued tells from names and key identifiers who issued a leaf that is known to be good.
func issued(by, leaf *x509.Certificate) bool {
	return bytes.Equal(leaf.RawIssuer, by.RawSubject) && (len(leaf.AuthorityKeyId) == 0 || bytes.Equal(leaf.AuthorityKeyId, by.SubjectKeyId))
}
