package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// Fault is a reason why the user's own CA cannot be used. It contains no part of a key.
type Fault struct {
	// Authority is its Request.Name.
	Authority string
	// InKey means that the fault is in Item.Key, not in Item.Cert.
	InKey bool
	// Message says what is wrong, Remedy what to do about it. Neither ends with a full stop.
	Message, Remedy string
}

// CheckOwn finds all faults of the user's own CAs (see Policy.Own), by name. No faults means that
// they can sign the requests, and the certificates will be accepted, as far as this can be checked
// in advance.
func CheckOwn(own map[string]Item, requests []Request, now time.Time) []Fault {
	var faults []Fault
	chains := map[string][]*x509.Certificate{}
	names := slices.Sorted(maps.Keys(own))
	for _, name := range names {
		c := ownCheck{name: name, now: now}
		c.check(own[name], requests)
		if c.chain != nil {
			c.compare(chains)
			chains[name] = c.chain
		}
		faults = append(faults, c.faults...)
	}
	return faults
}

// ownCheck is the check of one CA.
type ownCheck struct {
	name   string
	now    time.Time
	chain  []*x509.Certificate // nil if it cannot be read
	faults []Fault
}

func (c *ownCheck) fault(remedy, format string, args ...any) {
	c.faults = append(c.faults, Fault{Authority: c.name, Message: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (c *ownCheck) check(item Item, requests []Request) {
	chain, err := Parse(item.Cert)
	switch _, der := x509.ParseCertificate(item.Cert); {
	case err != nil && der == nil:
		c.fault("convert it to PEM: openssl x509 -inform DER -in FILE -out FILE.pem", "is a certificate in DER, not in PEM")
	case err != nil:
		c.fault("write the CA's certificate in PEM, followed by its parents if it has any", "cannot be read: %v", err)
	default:
		c.chain = chain
		c.checkLinks()
		for i := range chain {
			c.checkMember(i, requests)
		}
	}
	if len(item.Key) > 0 {
		c.checkKey(item)
	}
}

// checkKey compares the key with the certificate, if that could be read.
func (c *ownCheck) checkKey(item Item) {
	key, err := parseKey(item.Key.Reveal())
	before := len(c.faults)
	switch {
	case errors.Is(err, errEncrypted):
		c.fault("decrypt it: openssl pkey -in FILE -out DECRYPTED, with umask 077; to encrypt it at rest, encrypt the state (spec.state.encryption)",
			"%v", errEncrypted)
	case err != nil:
		c.fault("write the CA's private key in PEM, without a passphrase", "cannot be read: %v", err)
	case c.chain != nil && !equalKeys(key.Public(), c.chain[0].PublicKey):
		c.fault("name the key of the first certificate in certFile; in a chain, the CA comes first and its root last",
			"is not the key of the CA %q", c.chain[0].Subject)
	}
	for i := range c.faults[before:] {
		c.faults[before+i].InKey = true
	}
}

// checkLinks checks that every certificate is signed by the next one.
func (c *ownCheck) checkLinks() {
	for i, cert := range c.chain[:len(c.chain)-1] {
		err := cert.CheckSignatureFrom(c.chain[i+1])
		if err == nil {
			continue
		}
		later := slices.ContainsFunc(c.chain, func(other *x509.Certificate) bool {
			return other != cert && cert.CheckSignatureFrom(other) == nil
		})
		switch {
		case selfSigned(cert):
			c.fault("write the CA first, then its parents, the root last", "has %q, a root, before other certificates", cert.Subject)
		case later:
			c.fault("write the CA first, then its parents, each the issuer of the previous one",
				"is out of order: after %q comes %q, which is not its issuer", cert.Subject, c.chain[i+1].Subject)
		default:
			c.fault("write only the CA and its parents", "%q was not signed by the next certificate, %q: %v", cert.Subject, c.chain[i+1].Subject, err)
		}
	}
}

// checkMember checks the CA (i = 0) or one of its parents.
func (c *ownCheck) checkMember(i int, requests []Request) {
	cert := c.chain[i]
	const another = "use another CA, or have this one issued again"
	switch algorithm := algorithmOf(cert.PublicKey); {
	case !cert.IsCA || !cert.BasicConstraintsValid:
		c.fault("use a CA certificate, with basicConstraints=critical,CA:TRUE", "%q is not a CA", cert.Subject)
	case !maySign(cert):
		c.fault("have it issued with keyUsage=critical,keyCertSign,cRLSign", "%q must not sign certificates: its key usage lacks keyCertSign", cert.Subject)
	case i > 0 && (cert.MaxPathLen > 0 || cert.MaxPathLenZero) && cert.MaxPathLen < i:
		c.fault("have it issued with a larger pathlen, or use it as the CA itself",
			"%q has the path length %d, and does not permit the %s below it", cert.Subject, cert.MaxPathLen, plural(i, "CA", "CAs"))
	case !strong(algorithm):
		c.fault("use RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519", "%q has a key with an unsupported algorithm: %s", cert.Subject, algorithm)
	}
	if c.now.After(cert.NotAfter) {
		c.fault(another, "%q expired on %s", cert.Subject, cert.NotAfter.Format(time.DateOnly))
	}
	if c.now.Before(cert.NotBefore) {
		c.fault("wait, or check the clock of this machine", "%q is not valid yet: it is valid from %s", cert.Subject, cert.NotBefore.Format(time.RFC3339))
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		c.fault(another, "%q has a critical extension that Go, and so Kubernetes, does not know: %v", cert.Subject, cert.UnhandledCriticalExtensions[0])
	}
	c.checkUsages(cert, requests)
	c.checkConstraints(cert, requests)
}

// strong reports whether a signature algorithm is supported by Go and secure.
func strong(k KeyAlgorithm) bool {
	var bits int
	if n, _ := fmt.Sscanf(string(k), "RSA-%d", &bits); n == 1 {
		return bits >= 2048
	}
	return slices.Contains([]KeyAlgorithm{ECDSAP256, ECDSAP384, "ECDSA-P521", Ed25519}, k)
}

// checkUsages finds extended key usages that a CA excludes for everything it signs.
func (c *ownCheck) checkUsages(cert *x509.Certificate, requests []Request) {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return
	}
	var wanted Usage
	for _, q := range requests {
		if q.CA == c.name {
			wanted |= q.Usages
		}
	}
	for _, u := range purposes {
		if wanted&u.ours != 0 && !slices.Contains(cert.ExtKeyUsage, u.x509) {
			c.fault("have it issued with extendedKeyUsage=clientAuth,serverAuth, or without that extension",
				"%q excludes certificates for TLS %ss: its extended key usage lacks %s", cert.Subject, u.ours, u.openssl)
		}
	}
}

// compare refuses two CAs that are the same or have each other as parents: if one is trusted, so
// are the other's certificates, and a client of etcd could be an administrator of the cluster.
func (c *ownCheck) compare(others map[string][]*x509.Certificate) {
	const remedy = "use a different CA for each of kubernetes, etcd and frontProxy; they may have the same parent"
	for _, name := range slices.Sorted(maps.Keys(others)) {
		switch other := others[name]; {
		case equalKeys(other[0].PublicKey, c.chain[0].PublicKey):
			c.fault(remedy, "is the same CA as that of %q: certificates of one would be valid for the other", name)
		case below(c.chain, other[0]):
			c.fault(remedy, "is below the CA %q, which would be trusted for both", name)
		case below(other, c.chain[0]):
			c.fault(remedy, "is above the CA %q, and would be trusted for both", name)
		}
	}
}

// below reports whether a CA has signed any certificate of a chain.
func below(chain []*x509.Certificate, authority *x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return c.CheckSignatureFrom(authority) == nil })
}

// sameAuthority reports whether an item is this CA, possibly with a renewed certificate: then both
// are valid issuers of the same leaves.
func sameAuthority(cert *x509.Certificate, item Item) bool {
	certs, err := Parse(item.Cert)
	return err == nil && bytes.Equal(cert.RawSubject, certs[0].RawSubject) && equalKeys(cert.PublicKey, certs[0].PublicKey) &&
		bytes.Equal(cert.SubjectKeyId, certs[0].SubjectKeyId)
}

// SameAuthority reports whether two items are the same CA, with the same subject and key, possibly
// with different certificates. Replacing one with the other is not a rotation.
func SameAuthority(a, b Item) bool {
	chain, err := Parse(a.Cert)
	return err == nil && sameAuthority(chain[0], b)
}

// KeyOf returns the private key of a CA in m, stored under its name or under the new name of a
// rotation; nil if there is none. Only the certificate of own is used.
func (m Material) KeyOf(name string, authority Item) secret.Bytes {
	for _, item := range []Item{m[name], m[NextName(name)]} {
		if by, err := loadAuthority(item, false); err == nil && sameAuthority(by.cert, authority) {
			return item.Key
		}
	}
	return nil
}

// withKeys adds the keys in have to CAs without a key: a stored key is kept if the spec no longer
// names its file.
func withKeys(own map[string]Item, have Material) map[string]Item {
	for name, item := range own {
		if len(item.Key) == 0 {
			item.Key = have.KeyOf(name, item)
			own[name] = item
		}
	}
	return own
}

func equalItems(a, b Item) bool { return bytes.Equal(a.Cert, b.Cert) && bytes.Equal(a.Key, b.Key) }

// normalized removes everything except certificates and key from items that have passed CheckOwn.
func normalized(own map[string]Item) map[string]Item {
	all := make(map[string]Item, len(own))
	for name, item := range own {
		if chain, err := Parse(item.Cert); err == nil {
			item.Cert = encode(chain...)
		}
		if block, err := keyBlock(item.Key.Reveal()); err == nil {
			item.Key = pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
		}
		all[name] = item
	}
	return all
}

// faultsError turns faults into an error.
func faultsError(faults []Fault) error {
	var errs []error
	for _, f := range faults {
		errs = append(errs, itemError(f.Authority, fmt.Errorf("%s: %s", f.Message, f.Remedy)))
	}
	return errors.Join(errs...)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
