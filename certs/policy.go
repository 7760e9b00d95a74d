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

// The algorithms that Policy takes.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	Ed25519   KeyAlgorithm = "Ed25519"
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
)

// cfsslKey is cfssl's name for an algorithm (csr.KeyRequest).
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

// Policy is how long certificates live, what keys and subjects they have, and who signs them.
type Policy struct {
	// CAValidity and LeafValidity are between a minute and 100 years. CAValidity counts when an authority is made; a
	// leaf never outlives its authority: its validity is cut to end with it.
	CAValidity, LeafValidity time.Duration
	// AdminValidity is LeafValidity for the certificates of Admin and SuperAdmin; 0 is LeafValidity.
	AdminValidity time.Duration
	// RenewalWindow is how long before its end a leaf is renewed, at most four fifths of LeafValidity; 0 stands for a
	// fifth of the leaf's life, and at most a year.
	RenewalWindow time.Duration
	// KeyAlgorithm of new keys. Leaves that have another are reissued; authorities are kept (see PKI.Drift).
	KeyAlgorithm KeyAlgorithm
	// Renew names leaves that are to be issued again although they fit. Where the key for that is elsewhere they are
	// Pending, and stay so from the time on that SigningRequests has made theirs.
	Renew []string
	// Returned names authorities that a rollback returns to: requests that lie there for leaves that fit were meant for
	// others, and are forgotten.
	Returned []string
	// Replaced names authorities that a rotation replaces: their keys may be elsewhere although Own does not name them.
	Replaced []string
	// CAKeyAlgorithm of authorities; "" is KeyAlgorithm.
	CAKeyAlgorithm KeyAlgorithm
	// Subject is what all subjects have beside the names that the table gives them.
	Subject Subject
	// Own are the authorities that the user brings, by Request.Name. Cert may hold the authority's parents after it, up
	// to a root; Key is empty where it is kept elsewhere, and so are the leaves' signatures made there. One that Ensure was
	// given stays, though Key is empty here.
	Own map[string]Item
}

// Subject holds the fields of a distinguished name that mean nothing to Kubernetes (RFC 5280, 4.1.2.4).
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

// Lifetime is how long a leaf is to be valid.
func (p Policy) Lifetime(q Request) time.Duration {
	if p.AdminValidity > 0 && (q.Name == Admin || q.Name == SuperAdmin) {
		return p.AdminValidity
	}
	return p.LeafValidity
}

// keyOf is the algorithm of a request's key. Kubernetes signs service-account tokens with RSA or ECDSA only.
func (p Policy) keyOf(q Request) KeyAlgorithm {
	switch {
	case q.Kind == Authority && p.CAKeyAlgorithm != "":
		return p.CAKeyAlgorithm
	case q.Kind == KeyPair && p.KeyAlgorithm == Ed25519:
		return ECDSAP256
	}
	return p.KeyAlgorithm
}

// window is how long before its end a leaf that lives for lifetime is renewed. One that another has signed may live
// shorter than the policy thinks, and must not be due from its first day.
func (p Policy) window(lifetime time.Duration) time.Duration {
	if p.RenewalWindow == 0 {
		return renewalWindow(lifetime)
	}
	return min(p.RenewalWindow, widest(lifetime))
}

// renewalWindow is the default: a fifth of the life, at most a year.
func renewalWindow(lifetime time.Duration) time.Duration { return min(lifetime/5, 365*day) }

// widest is the longest window: more would have what is new be due again.
func widest(lifetime time.Duration) time.Duration { return lifetime / 5 * 4 }

// Backdate is how long before it is issued a certificate begins, unless its life is short. It is kubeadm's.
const Backdate = 5 * time.Minute

// Backdated is by how much a certificate of some lifetime is dated back, for clocks that run behind the operator's: by
// Backdate, but by no more than a tenth of its life.
func Backdated(lifetime time.Duration) time.Duration { return min(Backdate, lifetime/10) }

// differs says how a name's fields differ from s, "" where they do not. Their order means nothing.
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

// algorithmOf names the algorithm of a public key as KeyAlgorithm does, even where that is not one of ours.
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
