package certs

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Reason says in a word or two why an item was issued, or why an authority is not what was asked for.
type Reason string

// The reasons. An item that differs in several ways has the first of these.
const (
	Missing          Reason = "missing"
	SignedByAnother  Reason = "signed by another CA"
	SubjectChanged   Reason = "subject changed"
	SANsChanged      Reason = "SANs changed"
	UsagesChanged    Reason = "usages changed"
	AlgorithmChanged Reason = "key algorithm changed"
	ValidityChanged  Reason = "validity changed"
	Expiring         Reason = "expires soon"
	Renewed          Reason = "renewal was asked for"
)

// Change is an item with the reason for which it was issued. It holds no secret.
type Change struct {
	Name   string
	Reason Reason
	// Detail is a clause with the particulars, for example "SANs changed: +10.0.0.4 -old.example.com".
	Detail string
}

func (c Change) String() string { return c.Name + ": " + c.Detail }

// check decides about one request: nil for an item that is kept, a change for one to issue, an error for one that
// is damaged. What is to be said of an authority goes to pki.Drift.
func (e *ensurer) check(q Request, pki *PKI) (*Change, error) {
	if q.Kind == Leaf && e.issuers[q.CA] == nil {
		return nil, fmt.Errorf("no request for its authority %q", q.CA)
	}
	item, ok := e.have[q.Name]
	if !ok {
		if e.dependedOn(q) {
			return nil, ErrLost
		}
		return &Change{q.Name, Missing, string(Missing)}, nil
	}
	if q.Kind == KeyPair {
		return nil, checkKeyPair(item)
	}
	cert, _, err := load(item)
	if err != nil {
		return nil, err
	}
	if e.now.Before(cert.NotBefore) {
		return nil, fmt.Errorf("%w (it begins %s)", ErrNotYetValid, cert.NotBefore.Format(time.RFC3339))
	}
	if q.Kind == Authority {
		drift, err := e.checkAuthority(q, cert)
		if drift != nil {
			pki.Drift = append(pki.Drift, *drift)
		}
		return nil, err
	}
	if slices.Contains(e.policy.Renew, q.Name) {
		return &Change{q.Name, Renewed, string(Renewed)}, nil
	}
	return e.leafDiffers(q, cert, e.issuers[q.CA].cert), nil
}

// dependedOn tells whether material exists that a new authority or key pair would invalidate. Nothing in Material
// says who made the tokens that a key pair signs, so any material at all counts.
func (e *ensurer) dependedOn(q Request) bool {
	switch q.Kind {
	case KeyPair:
		return len(e.have) > 0
	case Authority:
		return slices.ContainsFunc(e.requests, func(leaf Request) bool {
			_, ok := e.have[leaf.Name]
			return ok && leaf.Kind == Leaf && leaf.CA == q.Name
		})
	default:
		return false
	}
}

// checkAuthority refuses what cannot sign, and reports what differs from the request.
func (e *ensurer) checkAuthority(q Request, cert *x509.Certificate) (*Change, error) {
	switch window := renewalWindow(cert.NotAfter.Sub(cert.NotBefore)); {
	case !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, ErrNotAuthority
	case e.now.After(cert.NotAfter):
		return nil, fmt.Errorf("%w (on %s)", ErrExpired, cert.NotAfter.Format(time.DateOnly))
	case e.now.Add(window).After(cert.NotAfter):
		return &Change{q.Name, Expiring, e.expires(cert)}, nil
	case cert.Subject.CommonName != q.CommonName:
		return differs(q, SubjectChanged, "CN is %q, wanted %q", cert.Subject.CommonName, q.CommonName), nil
	case algorithmOf(cert.PublicKey) != e.policy.KeyAlgorithm:
		return differs(q, AlgorithmChanged, "is %s, wanted %s", algorithmOf(cert.PublicKey), e.policy.KeyAlgorithm), nil
	}
	return nil, nil
}

// leafDiffers compares a leaf with what is asked of it.
func (e *ensurer) leafDiffers(q Request, cert, ca *x509.Certificate) *Change {
	names, ips := slices.Sorted(slices.Values(cert.DNSNames)), addresses(cert)
	switch usages := usagesOf(q, cert); {
	case cert.CheckSignatureFrom(ca) != nil:
		return &Change{q.Name, SignedByAnother, string(SignedByAnother)}
	case cert.Subject.CommonName != q.CommonName:
		return differs(q, SubjectChanged, "CN is %q, wanted %q", cert.Subject.CommonName, q.CommonName)
	case !slices.Equal(cert.Subject.Organization, q.Organizations):
		return differs(q, SubjectChanged, "O is %q, wanted %q", cert.Subject.Organization, q.Organizations)
	case !slices.Equal(names, q.DNSNames) || !slices.Equal(ips, q.IPs):
		return differs(q, SANsChanged, "%s", delta(append(names, texts(ips)...), append(slices.Clone(q.DNSNames), texts(q.IPs)...)))
	case usages != "":
		return differs(q, UsagesChanged, "%s", usages)
	case algorithmOf(cert.PublicKey) != e.policy.KeyAlgorithm:
		return differs(q, AlgorithmChanged, "is %s, wanted %s", algorithmOf(cert.PublicKey), e.policy.KeyAlgorithm)
	}
	return e.endDiffers(q, cert, ca)
}

// endDiffers looks at a leaf's validity. The end that the policy gives is computed from the certificate's own
// beginning, so that a leaf fits for as long as it lives, and changes when the policy does.
func (e *ensurer) endDiffers(q Request, cert, ca *x509.Certificate) *Change {
	want := leafEnd(cert.NotBefore, e.policy, ca)
	if !cert.NotAfter.Equal(want) {
		return differs(q, ValidityChanged, "ends %s, wanted %s", cert.NotAfter.Format(time.DateOnly), want.Format(time.DateOnly))
	}
	window := renewalWindow(cert.NotAfter.Sub(cert.NotBefore))
	// Close to the end of its authority a new leaf would end no later: only a rotation helps, and PKI.Drift says so.
	later := leafEnd(e.now.Add(-backdate), e.policy, ca).After(cert.NotAfter)
	if e.now.Add(window).After(cert.NotAfter) && later {
		return &Change{q.Name, Expiring, e.expires(cert)}
	}
	return nil
}

func (e *ensurer) expires(cert *x509.Certificate) string {
	left := cert.NotAfter.Sub(e.now)
	switch {
	case left < 0:
		return "expired on " + cert.NotAfter.Format(time.DateOnly)
	case left < 2*day:
		return fmt.Sprintf("expires in %d hours", left/time.Hour)
	default:
		return fmt.Sprintf("expires in %d days", left/day)
	}
}

func differs(q Request, r Reason, format string, args ...any) *Change {
	return &Change{Name: q.Name, Reason: r, Detail: string(r) + ": " + fmt.Sprintf(format, args...)}
}

// usagesOf says how the usages of a certificate differ from the request, "" where they do not.
func usagesOf(q Request, cert *x509.Certificate) string {
	var got Usage
	for _, u := range cert.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageClientAuth:
			got |= ClientAuth
		case x509.ExtKeyUsageServerAuth:
			got |= ServerAuth
		default:
			return fmt.Sprintf("has a usage that was not asked for (x509 number %d)", u)
		}
	}
	want := x509.KeyUsageDigitalSignature
	if cert.PublicKeyAlgorithm == x509.RSA {
		want |= x509.KeyUsageKeyEncipherment
	}
	switch {
	case got != q.Usages:
		return fmt.Sprintf("is for %q, wanted %q", got, q.Usages)
	case cert.KeyUsage != want:
		return fmt.Sprintf("key usage is %#x, wanted %#x", int(cert.KeyUsage), int(want))
	case cert.IsCA:
		return "is an authority"
	}
	return ""
}

// load reads an item's certificate and key and checks that they belong together.
func load(item Item) (*x509.Certificate, crypto.Signer, error) {
	certs, err := Parse(item.Cert)
	if err != nil {
		return nil, nil, err
	}
	if len(certs) != 1 {
		return nil, nil, fmt.Errorf("%w: %d certificates where there should be one", ErrMalformed, len(certs))
	}
	key, err := parseKey(item.Key.Reveal())
	if err != nil {
		return nil, nil, err
	}
	if !equalKeys(key.Public(), certs[0].PublicKey) {
		return nil, nil, ErrKeyMismatch
	}
	return certs[0], key, nil
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

// equalKeys compares public keys; every one of the standard library's has Equal.
func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func addresses(cert *x509.Certificate) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			ips = append(ips, a.Unmap())
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return ips
}

func texts(ips []netip.Addr) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}

// delta lists what is to be added (+) to have, and dropped (-), to become want.
func delta(have, want []string) string {
	var d []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			d = append(d, "+"+w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			d = append(d, "-"+h)
		}
	}
	return strings.Join(d, " ")
}
