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

// checkConstraints finds names that an authority may not sign for (RFC 5280, 4.2.1.10).
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
			"%q does not permit what the cluster needs: %s", cert.Subject, refused.Detail)
	} else if err != nil {
		c.fault("have it issued without name constraints", "the name constraints of %q cannot be checked: %v", cert.Subject, err)
	}
}

// permits has Go's own verification decide whether an authority's name constraints allow names and addresses: of a
// certificate for them, signed by an authority with the same constraints and a key made for the purpose.
func permits(constraints *x509.Certificate, names []string, ips []netip.Addr) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
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

// accepted tells whether a leaf will be, for all its usages, by those who trust its authority.
func (e *ensurer) accepted(q Request, cert *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AddCert(e.issuers[q.CA].cert)
	for _, u := range purposes {
		if q.Usages&u.ours == 0 {
			continue
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: e.now, KeyUsages: []x509.ExtKeyUsage{u.x509}}); err != nil {
			return fmt.Errorf("its authority cannot vouch for it: %w", err)
		}
	}
	return nil
}
