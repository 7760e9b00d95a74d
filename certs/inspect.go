package certs

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// Parse reads one or more PEM certificates; other PEM blocks are errors. Errors wrap ErrMalformed.
func Parse(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := data; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%w: not PEM", ErrMalformed)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: a PEM block of type %q instead of a certificate", ErrMalformed, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate: %w", ErrMalformed, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: no certificate in %d bytes", ErrMalformed, len(data))
	}
	return certs, nil
}

// Expiry is a certificate and when it expires.
type Expiry struct {
	Name       string
	CommonName string
	Node       string // "" if shared
	CA         string // "" for CAs
	Serial     string // lower-case hexadecimal
	NotBefore  time.Time
	NotAfter   time.Time
}

// Expiries lists the requested certificates in m, sorted by expiry. For a damaged one, it returns
// an *ItemError.
func (m Material) Expiries(requests []Request) ([]Expiry, error) {
	var list []Expiry
	for _, q := range requests {
		item, ok := m[q.Name]
		if !ok || q.Kind == KeyPair {
			continue
		}
		certs, err := Parse(item.Cert)
		if err != nil {
			return nil, itemError(q.Name, err)
		}
		c := certs[0]
		list = append(list, Expiry{
			Name: q.Name, CommonName: c.Subject.CommonName, Node: q.Node, CA: q.CA,
			Serial: fmt.Sprintf("%x", c.SerialNumber), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		})
	}
	slices.SortStableFunc(list, func(a, b Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}
