package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"time"
)

// checkConstraints finds names that a CA may not sign (RFC 5280, 4.2.1.10).
func (c *ownCheck) checkConstraints(cert *x509.Certificate, requests []Request) {
	if len(cert.PermittedDNSDomains)+len(cert.ExcludedDNSDomains)+len(cert.PermittedIPRanges)+len(cert.ExcludedIPRanges) == 0 {
		return
	}
	var names []string
	var ips []netip.Addr
	for _, q := range requests {
		if q.CA == c.name {
			names, ips = append(names, q.DNSNames...), append(ips, q.IPs...)
		}
	}
	var refused x509.CertificateInvalidError
	if err := permits(cert, names, ips); errors.As(err, &refused) {
		c.fault("have it issued with name constraints that permit the cluster's names and addresses, or without any",
			"%q does not permit the cluster's names: %s", cert.Subject, refused.Detail)
	} else if err != nil {
		c.fault("have it issued without name constraints", "the name constraints of %q cannot be checked: %v", cert.Subject, err)
	}
}

// permits uses Go's verification to decide whether a CA's name constraints allow names and
// addresses. It verifies a certificate for them, signed by a temporary CA with the same
// constraints.
func permits(constraints *x509.Certificate, names []string, ips []netip.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := constraints.NotBefore.Add(time.Hour) // any time does: only names are checked
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomains: constraints.PermittedDNSDomains, ExcludedDNSDomains: constraints.ExcludedDNSDomains,
		PermittedIPRanges: constraints.PermittedIPRanges, ExcludedIPRanges: constraints.ExcludedIPRanges,
		PermittedDNSDomainsCritical: true,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: authority.NotBefore, NotAfter: authority.NotAfter}
	slices.Sort(names)
	leaf.DNSNames = slices.Compact(names)
	for _, ip := range ips {
		leaf.IPAddresses = append(leaf.IPAddresses, net.IP(ip.AsSlice()))
	}
	var parsed [2]*x509.Certificate
	for i, template := range []*x509.Certificate{authority, leaf} {
		der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key)
		if err != nil {
			return err
		}
		if parsed[i], err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed[0])
	_, err = parsed[1].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// accepted checks that clients and servers that trust its CA accept a leaf, for all its usages.
func (e *ensurer) accepted(q Request, cert *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(e.issuers[q.CA].cert)
	for _, u := range purposes {
		if q.Usages&u.ours == 0 {
			continue
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: e.now, KeyUsages: []x509.ExtKeyUsage{u.x509}}); err != nil {
			return fmt.Errorf("its CA may not sign it: %w", err)
		}
	}
	return nil
}
