package diagnose

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/observe"
)

// certificates reads them where they are used, and verifies those of the table.
func (g *gathering) certificates(ctx context.Context) []Certificate {
	in, requests := g.Input, map[string]certs.Request{}
	for _, q := range in.PKI.Requests {
		requests[q.Name] = q
	}
	var all []Certificate
	for _, u := range observe.Inventory(ctx, in, g.Hosts, nil) {
		switch {
		case u.Place == certs.UnreadHost, u.Place == certs.UnreadAPI, u.Place == certs.UnreadSpec, u.Place == certs.InCSR:
			continue // others say so; and what a person was given may end
		case u.Host != "" && len(g.Only) > 0 && !slices.Contains(g.Only, u.Host):
			continue
		}
		c := Certificate{Use: u}
		if q, ok := requests[u.Name]; ok && q.Kind == certs.Leaf && u.X509 != nil {
			c.verify(q, in.PKI)
		}
		all = append(all, c)
	}
	return all
}

// verify compares a leaf with its request: who has signed it, and which names it has.
func (c *Certificate) verify(q certs.Request, pki *certs.PKI) {
	roots := x509.NewCertPool()
	for _, bundle := range pki.Bundles(q.CA) {
		roots.AppendCertsFromPEM(bundle)
	}
	// Whether it is valid now is said elsewhere.
	_, err := c.X509.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.X509.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		c.Trust = err.Error()
		return
	}
	for _, name := range q.DNSNames {
		if !slices.ContainsFunc(c.X509.DNSNames, func(have string) bool { return strings.EqualFold(have, name) }) {
			c.Names = append(c.Names, name)
		}
	}
	for _, ip := range q.IPs {
		if !slices.ContainsFunc(c.X509.IPAddresses, func(have net.IP) bool { return have.Equal(ip.AsSlice()) }) {
			c.Names = append(c.Names, ip.String())
		}
	}
}
