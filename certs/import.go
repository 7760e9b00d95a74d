package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Signed is a file of certificates from an external CA.
type Signed struct {
	// Source is its name in errors.
	Source string
	// Certs are PEM certificates, possibly including those of the CA and its parents.
	Certs []byte
}

// Import replaces pending leaves with the signed certificates for their keys, and returns their
// sorted names. Every certificate is checked like in Ensure. If any does not fit, the error names
// all that do not, and nothing is imported.
func (p *PKI) Import(signed []Signed, policy Policy, now time.Time) ([]string, error) {
	i, err := newImporter(p, policy, now)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range signed {
		certs, err := Parse(s.Certs)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Source, err))
		}
		for _, cert := range certs {
			if err := i.take(cert); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.Source, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var names []string
	for name, item := range i.taken {
		names = append(names, name)
		p.Material[name] = item
		delete(p.Material, name+pendingExt)
		p.Obsolete = append(p.Obsolete, name+pendingExt)
	}
	p.Pending = slices.DeleteFunc(p.Pending, func(w Pending) bool { return i.taken[w.Name].Cert != nil })
	slices.Sort(p.Obsolete)
	slices.Sort(names)
	return names, nil
}

// importer is the state of one Import.
type importer struct {
	ensurer
	material Material
	waiting  map[string]Request // by public key, DER
	taken    map[string]Item
}

func newImporter(p *PKI, policy Policy, now time.Time) (*importer, error) {
	i := &importer{
		ensurer:  ensurer{policy: policy, now: now, issuers: map[string]*issuer{}},
		material: p.Material, waiting: map[string]Request{}, taken: map[string]Item{},
	}
	pending := map[string]bool{}
	for _, w := range p.Pending {
		pending[w.Name] = true
	}
	for _, q := range p.Requests {
		if q.Kind == Authority {
			by, err := loadAuthority(p.Material[q.Name], true)
			if err != nil {
				return nil, itemError(q.Name, err)
			}
			i.issuers[q.Name] = by
		}
		block, _ := pem.Decode(p.Material[q.Name+pendingExt].Cert)
		if !pending[q.Name] || block == nil {
			continue
		}
		asked, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, itemError(q.Name+pendingExt, fmt.Errorf("%w: %w", ErrMalformed, err))
		}
		i.waiting[keyID(asked.PublicKey)] = q
	}
	return i, nil
}

// keyID returns the encoding of a public key; a key that cannot be encoded matches no request.
func keyID(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	return string(der)
}

// take finds the pending leaf for a certificate, and checks it.
func (i *importer) take(cert *x509.Certificate) error {
	if cert.IsCA {
		return nil // the CA or a parent, included with the leaf
	}
	q, ok := i.waiting[keyID(cert.PublicKey)]
	if !ok {
		return fmt.Errorf("the certificate of %q matches no pending request: sign the latest requests from `slipway certs csr`", cert.Subject)
	}
	text := encode(cert)
	if before, ok := i.taken[q.Name]; ok && !bytes.Equal(before.Cert, text) {
		return itemError(q.Name, errors.New("there are two certificates for the same key: keep one"))
	}
	i.taken[q.Name] = Item{Cert: text, Key: i.material[q.Name+pendingExt].Key}
	return itemError(q.Name, i.unfit(q, cert))
}

// unfit says why an externally signed certificate does not fit. Being due for renewal soon is
// allowed.
func (i *importer) unfit(q Request, cert *x509.Certificate) error {
	by := i.issuers[q.CA]
	if err := i.begun(cert); err != nil {
		return err
	}
	switch c := i.leafDiffers(q, cert, by); {
	case c != nil && c.Reason == SignedByAnother:
		return fmt.Errorf("signed by another CA: %q, wanted %q", cert.Issuer, by.cert.Subject)
	case c != nil && c.Reason != Expiring:
		return errors.New(c.Detail)
	case i.now.After(cert.NotAfter):
		return fmt.Errorf("expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return i.accepted(q, cert)
}
