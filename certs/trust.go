package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
)

// Additional files that only the controller manager reads.
const (
	// RootCAFile is what pods get as kube-root-ca.crt: the kubernetes CA with its parents.
	RootCAFile = pkiDir + "root-ca.crt"
	// SignerFile is the single certificate for --cluster-signing-cert-file. It exists only if
	// PKI.Signs.
	SignerFile = pkiDir + "signer.crt"
)

// Bundle returns what a component trusts for a CA, in PEM. It is only the CA, never its parents:
// otherwise, any certificate signed below the company's root could be an administrator's. Go
// accepts any trusted certificate as an anchor, even if it is not self-signed. During a rotation it
// may have two CAs, the one in use first. For a KeyPair it has the public keys.
func (p *PKI) Bundle(name string) []byte {
	var bundle []byte
	for _, item := range p.trusted(name) {
		bundle = append(bundle, item.First()...)
	}
	return bundle
}

// Chain returns the CA with its parents, in PEM, for clients that verify a server. Clients that use
// OpenSSL need the root. During a rotation it may have two chains.
func (p *PKI) Chain(authority string) []byte {
	var chain []byte
	for _, item := range p.trusted(authority) {
		chain = append(chain, item.Cert...)
	}
	return chain
}

// Bundles returns everything that Bundle can return at any stage of the rotation in progress.
func (p *PKI) Bundles(name string) [][]byte {
	used := p.Material[name].First()
	other, ok := p.Other[name]
	if !ok {
		return [][]byte{used}
	}
	return [][]byte{used, other.First(), slices.Concat(used, other.First()), slices.Concat(other.First(), used)}
}

// TrustedKeys returns the fingerprints of the public keys in the Bundle of a CA. A renewed
// certificate has the same fingerprint.
func (p *PKI) TrustedKeys(authority string) []string {
	var keys []string
	for _, item := range p.trusted(authority) {
		keys = append(keys, item.fingerprint())
	}
	return keys
}

// KnownKeys returns the TrustedKeys of all stages of the rotation in progress.
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

// fingerprint returns the SHA-256 of a CA's public key (SubjectPublicKeyInfo, DER) in hexadecimal,
// or "" if it cannot be read.
func (i Item) fingerprint() string {
	certs, err := Parse(i.Cert)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(certs[0].RawSubjectPublicKeyInfo))
}

// trusted returns the item in use, and the other one if the rotation trusts both.
func (p *PKI) trusted(name string) []Item {
	items := []Item{p.Material[name]}
	if other, ok := p.Other[name]; ok && p.Rotation.TrustsBoth() {
		items = append(items, other)
	}
	return items
}

// First returns the item's certificate without parents, or the public key of a KeyPair.
func (i Item) First() []byte {
	certs, err := Parse(i.Cert)
	if err != nil {
		return i.Cert
	}
	return encode(certs[0])
}

// Signs reports whether the key of a CA is available.
func (p *PKI) Signs(authority string) bool { return len(p.Material[authority].Key) > 0 }

// forControllerManager returns the files of the kubernetes CA that only the controller manager
// needs.
func (p *PKI) forControllerManager() []File {
	files := []File{{Path: RootCAFile, Mode: 0o644, Content: p.Chain(KubernetesCA)}}
	if p.Signs(KubernetesCA) {
		files = append(files, File{Path: SignerFile, Mode: 0o644, Content: p.Material[KubernetesCA].First()})
	}
	return files
}

// shown is the part of a CA that hosts get, computed once for all of them.
type shown struct {
	bundle  []byte
	cert    *x509.Certificate // nil if it cannot be read
	between []byte            // the CAs from this one up to the root, without it
}

func (p *PKI) shown() map[string]shown {
	all := map[string]shown{}
	for _, q := range p.Requests {
		if q.Kind != Authority {
			continue
		}
		chain, err := Parse(p.Material[q.Name].Cert)
		if err != nil {
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

// presents returns what the holder of a leaf sends to peers, in PEM: the leaf and the CAs between
// it and the root, so that peers that only trust the root can verify it.
func (s shown) presents(leaf []byte) []byte {
	if len(s.between) == 0 {
		return leaf
	}
	if certs, err := Parse(leaf); err != nil || !issued(s.cert, certs[0]) {
		return leaf
	}
	return slices.Concat(leaf, s.between)
}

// issued reports whether a CA has issued a valid leaf, from names and key identifiers.
func issued(by, leaf *x509.Certificate) bool {
	return bytes.Equal(leaf.RawIssuer, by.RawSubject) && (len(leaf.AuthorityKeyId) == 0 || bytes.Equal(leaf.AuthorityKeyId, by.SubjectKeyId))
}
