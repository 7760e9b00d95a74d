package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"time"
)

const (
	day     = 24 * time.Hour
	maximum = 100 * 366 * day
	// backdate covers clocks that run behind the operator's, as kubeadm does.
	backdate = 5 * time.Minute
)

// KeyAlgorithm names a kind and size of private key.
type KeyAlgorithm string

// The key algorithms that there are.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
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
	RSA2048:   {"rsa", 2048},
	RSA3072:   {"rsa", 3072},
	RSA4096:   {"rsa", 4096},
}

// Policy is how long certificates live and what keys they have.
type Policy struct {
	// CAValidity and LeafValidity are at most 100 years. CAValidity counts when an authority is made; a leaf never
	// outlives its authority: its validity is cut to end with it.
	CAValidity, LeafValidity time.Duration
	// KeyAlgorithm of new keys. Leaves that have another are reissued; authorities are kept (see PKI.Drift).
	KeyAlgorithm KeyAlgorithm
	// Renew names leaves that are to be issued again although they fit.
	Renew []string
}

func (p Policy) validate() error {
	if _, ok := cfsslKey[p.KeyAlgorithm]; !ok {
		return fmt.Errorf("certificate policy: unknown key algorithm %q: use ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096", p.KeyAlgorithm)
	}
	for what, d := range map[string]time.Duration{"CA": p.CAValidity, "leaf": p.LeafValidity} {
		if d < time.Hour || d > maximum {
			return fmt.Errorf("certificate policy: %s validity %v is not between one hour and 100 years", what, d)
		}
	}
	return nil
}

// renewalWindow is how long before its end a certificate that lives for lifetime is renewed:
// a fifth of its life, at most a year.
func renewalWindow(lifetime time.Duration) time.Duration { return min(lifetime/5, 365*day) }

// algorithmOf names the algorithm of a public key as KeyAlgorithm does, even where that is not one of ours.
func algorithmOf(pub crypto.PublicKey) KeyAlgorithm {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return KeyAlgorithm(fmt.Sprintf("ECDSA-P%d", k.Params().BitSize))
	case *rsa.PublicKey:
		return KeyAlgorithm(fmt.Sprintf("RSA-%d", k.N.BitLen()))
	default:
		return KeyAlgorithm(fmt.Sprintf("%T", pub))
	}
}
