package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	day     = 24 * time.Hour
	maximum = 100 * 366 * day
	minimum = time.Minute
)

// KeyAlgorithm names a kind and size of private key.
type KeyAlgorithm string

// The algorithms that Policy supports.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	Ed25519   KeyAlgorithm = "Ed25519"
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
)

// cfsslKey returns cfssl's name for an algorithm (csr.KeyRequest).
var cfsslKey = map[KeyAlgorithm]struct {
	algo string
	size int
}{
	ECDSAP256: {"ecdsa", 256},
	ECDSAP384: {"ecdsa", 384},
	Ed25519:   {"ed25519", 0},
	RSA2048:   {"rsa", 2048},
	RSA3072:   {"rsa", 3072},
	RSA4096:   {"rsa", 4096},
}

// Policy has the validity, keys, subjects and CAs of certificates.
type Policy struct {
	// CAValidity and LeafValidity are between a minute and 100 years. CAValidity applies when a CA
	// is made. A leaf never outlives its CA: its validity is shortened to end with it.
	CAValidity, LeafValidity time.Duration
	// AdminValidity replaces LeafValidity for the certificates of Admin and SuperAdmin; 0 means
	// LeafValidity.
	AdminValidity time.Duration
	// RenewalWindow is how long before its end a leaf is renewed, at most four fifths of
	// LeafValidity; 0 means a fifth of the leaf's lifetime, at most a year.
	RenewalWindow time.Duration
	// KeyAlgorithm of new keys. Leaves with another algorithm are renewed; CAs are kept (see
	// PKI.Drift).
	KeyAlgorithm KeyAlgorithm
	// Renew names leaves to renew although they fit. Leaves of an external CA become Pending, and
	// stay so once SigningRequests has made their requests.
	Renew []string
	// Returned names CAs that a rollback returns to. Pending requests for leaves that fit were
	// meant for the other CA, and are dropped.
	Returned []string
	// Replaced names CAs that a rotation replaces. Their keys may be missing although Own does not
	// name them.
	Replaced []string
	// CAKeyAlgorithm of CAs; "" means KeyAlgorithm.
	CAKeyAlgorithm KeyAlgorithm
	// Subject has additional fields of all subjects, besides the names in the table.
	Subject Subject
	// Own has the user's own CAs, by Request.Name. Cert may contain the CA's parents after it, up
	// to a root. Key is empty for an external CA. If Ensure has been given the key before, it keeps
	// it even if Key is empty here.
	Own map[string]Item
}

// Subject has the fields of a distinguished name that Kubernetes does not use (RFC 5280, 4.1.2.4).
type Subject struct {
	OrganizationalUnits, Countries, Provinces, Localities []string
}

func (p Policy) validate() error {
	for _, k := range []KeyAlgorithm{p.KeyAlgorithm, p.keyOf(Request{Kind: Authority})} {
		if _, ok := cfsslKey[k]; !ok {
			return fmt.Errorf("certificate policy: unknown key algorithm %q: use ECDSA-P256, ECDSA-P384, Ed25519, RSA-2048, RSA-3072 or RSA-4096", k)
		}
	}
	admin := p.Lifetime(Request{Name: Admin})
	for what, d := range map[string]time.Duration{"CA": p.CAValidity, "leaf": p.LeafValidity, "admin": admin} {
		if d < minimum || d > maximum {
			return fmt.Errorf("certificate policy: %s validity %v is not between one minute and 100 years", what, d)
		}
	}
	if p.RenewalWindow < 0 || p.RenewalWindow > widest(p.LeafValidity) {
		return fmt.Errorf("certificate policy: renewal window %v is not between 0 and four fifths of the leaf validity %v", p.RenewalWindow, p.LeafValidity)
	}
	return nil
}

// Lifetime returns the validity of a leaf.
func (p Policy) Lifetime(q Request) time.Duration {
	if p.AdminValidity > 0 && (q.Name == Admin || q.Name == SuperAdmin) {
		return p.AdminValidity
	}
	return p.LeafValidity
}

// keyOf returns the algorithm of a request's key. Kubernetes signs service-account tokens with RSA
// or ECDSA only.
func (p Policy) keyOf(q Request) KeyAlgorithm {
	switch {
	case q.Kind == Authority && p.CAKeyAlgorithm != "":
		return p.CAKeyAlgorithm
	case q.Kind == KeyPair && p.KeyAlgorithm == Ed25519:
		return ECDSAP256
	}
	return p.KeyAlgorithm
}

// window returns how long before its end a leaf with a given lifetime is renewed. A leaf from an
// external CA may be shorter-lived than the policy says, and must not be due from its first day.
func (p Policy) window(lifetime time.Duration) time.Duration {
	if p.RenewalWindow == 0 {
		return renewalWindow(lifetime)
	}
	return min(p.RenewalWindow, widest(lifetime))
}

// renewalWindow is the default: a fifth of the lifetime, at most a year.
func renewalWindow(lifetime time.Duration) time.Duration { return min(lifetime/5, 365*day) }

// widest is the longest window: with a longer one, a new certificate would soon be due again.
func widest(lifetime time.Duration) time.Duration { return lifetime / 5 * 4 }

// Backdate is how long before it is issued a certificate is valid, unless its lifetime is short.
// kubeadm uses the same value.
const Backdate = 5 * time.Minute

// Backdated returns by how much a certificate with a given lifetime is backdated, because clocks
// may be behind the operator's: by Backdate, but at most by a tenth of its lifetime.
func Backdated(lifetime time.Duration) time.Duration { return min(Backdate, lifetime/10) }

// differs says how a name's fields differ from s, or "". Their order does not matter.
func (s Subject) differs(name pkix.Name) string {
	for _, f := range []struct {
		what       string
		want, have []string
	}{
		{"OU", s.OrganizationalUnits, name.OrganizationalUnit},
		{"C", s.Countries, name.Country},
		{"ST", s.Provinces, name.Province},
		{"L", s.Localities, name.Locality},
	} {
		if !slices.Equal(slices.Sorted(slices.Values(f.have)), slices.Sorted(slices.Values(f.want))) {
			return fmt.Sprintf("%s is %q, wanted %q", f.what, f.have, f.want)
		}
	}
	return ""
}

// algorithmOf returns the algorithm of a public key in the form of a KeyAlgorithm, even if it is
// not supported.
func algorithmOf(pub crypto.PublicKey) KeyAlgorithm {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return KeyAlgorithm(fmt.Sprintf("ECDSA-P%d", k.Params().BitSize))
	case *rsa.PublicKey:
		return KeyAlgorithm(fmt.Sprintf("RSA-%d", k.N.BitLen()))
	case ed25519.PublicKey:
		return Ed25519
	default:
		return KeyAlgorithm(strings.TrimPrefix(fmt.Sprintf("%T", pub), "*"))
	}
}
