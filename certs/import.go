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

// Signed is a file of certificates as it came back from an authority elsewhere.
type Signed struct {
	// Source names it in errors.
	Source string
	// Certs are PEM certificates; those of the authority and its parents may be among them.
	Certs []byte
}

// Import puts signed certificates in the place of the pending leaves whose keys they are for, and gives the names of
// these, sorted. Every certificate is checked as Ensure would; when any does not fit, the error names all that do not,
// and nothing is taken over.
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

// keyID is a public key's own encoding; one that has none is nobody's.
func keyID(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	return string(der)
}

// take finds the pending leaf that a certificate is for, and checks it.
func (i *importer) take(cert *x509.Certificate) error {
	if cert.IsCA {
		return nil // it came along with what it signed
	}
	q, ok := i.waiting[keyID(cert.PublicKey)]
	if !ok {
		return fmt.Errorf("the certificate of %q is for none of the keys that wait: have the last requests signed that `slipway certs csr` wrote", cert.Subject)
	}
	text := encode(cert)
	if before, ok := i.taken[q.Name]; ok && !bytes.Equal(before.Cert, text) {
		return itemError(q.Name, errors.New("there are two for the same key: keep one"))
	}
	i.taken[q.Name] = Item{Cert: text, Key: i.material[q.Name+pendingExt].Key}
	return itemError(q.Name, i.unfit(q, cert))
}

// unfit says what is wrong with a certificate that was signed elsewhere; that it is due again soon is not.
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
		return fmt.Errorf("has expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return i.accepted(q, cert)
}
