package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cloudflare/cfssl/csr"
	"golang.org/x/sync/errgroup"
)

// pendingExt is the suffix of items that wait for their certificate: Key is the private key, and
// Cert the signing request (PKCS#10, PEM).
const pendingExt = ".pending"

// Pending is a leaf that an external CA has to sign.
type Pending struct {
	// Change says why, as for other leaves.
	Change
	// Usable means that the current certificate can be used until it expires.
	Usable bool
}

// PendingError means that the cluster lacks certificates that an external CA has to sign.
type PendingError struct {
	// Names of the requests, in the order of the table.
	Names []string
	// Renewal means that none is missing: a renewal was requested.
	Renewal bool
}

func (e *PendingError) Error() string {
	names := e.Names[:min(len(e.Names), 5)]
	more := ""
	if len(names) < len(e.Names) {
		more = ", ..."
	}
	what := plural(len(e.Names), "certificate has to be signed", "certificates have to be signed")
	if e.Renewal {
		what = plural(len(e.Names), "certificate can only be renewed", "certificates can only be renewed")
	}
	return fmt.Sprintf("%s by an external CA: %s%s", what, strings.Join(names, ", "), more)
}

// Unrenewed returns a *PendingError with those of names that an external CA has to sign, or nil if
// there are none.
func (p *PKI) Unrenewed(names []string) *PendingError {
	err := &PendingError{Renewal: true}
	for _, w := range p.Pending {
		if w.Reason == Requested && slices.Contains(names, w.Name) {
			err.Names = append(err.Names, w.Name)
		}
	}
	if len(err.Names) == 0 {
		return nil
	}
	return err
}

func pendingError(pending []Pending) error {
	var names []string
	for _, p := range pending {
		if !p.Usable {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &PendingError{Names: names}
}

// await records a leaf of an external CA. It keeps the certificate in use and the pending request.
func (e *ensurer) await(q Request, c Change, pki *PKI) {
	p := Pending{Change: c}
	if item, ok := e.have[q.Name]; ok {
		pki.Material[q.Name] = item
		if cert, _, err := load(item); err == nil {
			p.Usable = (c.Reason == Expiring || c.Reason == Requested) && e.now.Before(cert.NotAfter)
		}
	}
	if item, ok := e.have[q.Name+pendingExt]; ok {
		pki.Material[q.Name+pendingExt] = item
	}
	pki.Pending = append(pki.Pending, p)
}

// waits reports whether a requested renewal of a leaf that fits still waits for an external CA:
// there is a request with another key.
func (e *ensurer) waits(q Request, cert *x509.Certificate) bool {
	item, ok := e.have[q.Name+pendingExt]
	if !ok || e.issuers[q.CA].key != nil || slices.Contains(e.policy.Returned, q.CA) || !fits(item, q, e.policy) {
		return false
	}
	_, err := keyFor(cert, item)
	return errors.Is(err, ErrKeyMismatch)
}

// SigningRequest is the request for a pending leaf.
type SigningRequest struct {
	Request Request
	// Reason is why the certificate is needed: Change.Detail.
	Reason string
	// KeyUsages and ExtendedKeyUsages use OpenSSL's names (x509v3_config).
	KeyUsages, ExtendedKeyUsages []string
	// CSR is the request (PKCS#10, PEM), with subject, names and usages. It contains no secrets.
	CSR []byte
	// New means that its key was just made, and must be stored before the request is published.
	New bool
}

// SigningRequests returns the request of every pending leaf, in the order of the table. An existing
// request is kept as long as it matches; otherwise a new one is made, with a new key, and added to
// p.Material.
func (p *PKI) SigningRequests(ctx context.Context, policy Policy) ([]SigningRequest, error) {
	all, items, requests := make([]SigningRequest, len(p.Pending)), make([]Item, len(p.Pending)), map[string]Request{}
	for _, q := range p.Requests {
		requests[q.Name] = q
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, pending := range p.Pending {
		q := requests[pending.Name]
		items[i] = p.Material[q.Name+pendingExt]
		all[i] = SigningRequest{Request: q, Reason: pending.Detail, CSR: items[i].Cert}
		all[i].KeyUsages, all[i].ExtendedKeyUsages = usageNames(q, policy)
		if fits(items[i], q, policy) {
			continue
		}
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("make signing requests: %w", context.Cause(ctx))
			}
			items[i], err = newPending(q, policy)
			all[i].CSR, all[i].New = items[i].Cert, true
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, r := range all {
		p.Material[r.Request.Name+pendingExt] = items[i]
	}
	return all, nil
}

func usageNames(q Request, p Policy) (key, extended []string) {
	key = []string{"digitalSignature"}
	if cfsslKey[p.keyOf(q)].algo == "rsa" {
		key = append(key, "keyEncipherment")
	}
	for _, u := range purposes {
		if q.Usages&u.ours != 0 {
			extended = append(extended, u.openssl)
		}
	}
	return key, extended
}

// newPending makes a key and a request with everything that the certificate must contain.
func newPending(q Request, p Policy) (Item, error) {
	key, keyPEM, err := NewKey(p.keyOf(q))
	if err != nil {
		return Item{}, itemError(q.Name, err)
	}
	request := signingRequest(q, p)
	request.Extensions = usageExtensions(q, p)
	text, err := csr.Generate(key, request)
	if err != nil {
		return Item{}, itemError(q.Name, fmt.Errorf("make a signing request: %w", err))
	}
	return Item{Cert: text, Key: keyPEM}, nil
}

// fits reports whether a pending request still matches.
func fits(item Item, q Request, p Policy) bool {
	block, _ := pem.Decode(item.Cert)
	if block == nil {
		return false
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return false
	}
	key, err := parseKey(item.Key.Reveal())
	if err != nil || !equalKeys(key.Public(), asked.PublicKey) || algorithmOf(asked.PublicKey) != p.keyOf(q) {
		return false
	}
	for _, want := range usageExtensions(q, p) {
		if !slices.ContainsFunc(asked.Extensions, func(have pkix.Extension) bool {
			return have.Id.Equal(want.Id) && have.Critical == want.Critical && bytes.Equal(have.Value, want.Value)
		}) {
			return false
		}
	}
	names := &x509.Certificate{DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses}
	return p.subjectDiffers(q, asked.Subject) == "" && slices.Equal(slices.Sorted(slices.Values(asked.DNSNames)), q.DNSNames) &&
		slices.Equal(addresses(names), q.IPs)
}

// The extensions (RFC 5280) in a signing request.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// purposes are the extended key usages by their standard names.
var purposes = []struct {
	ours           Usage
	x509           x509.ExtKeyUsage
	oid            asn1.ObjectIdentifier
	openssl, cfssl string
}{
	{ClientAuth, x509.ExtKeyUsageClientAuth, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}, "clientAuth", "client auth"},
	{ServerAuth, x509.ExtKeyUsageServerAuth, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}, "serverAuth", "server auth"},
}

// usageExtensions returns the extensions that correspond to keyUsages.
func usageExtensions(q Request, p Policy) []pkix.Extension {
	usage := asn1.BitString{Bytes: []byte{0x80}, BitLength: 1} // digitalSignature
	if cfsslKey[p.keyOf(q)].algo == "rsa" {
		usage = asn1.BitString{Bytes: []byte{0xa0}, BitLength: 3} // plus keyEncipherment
	}
	var extended []asn1.ObjectIdentifier
	for _, u := range purposes {
		if q.Usages&u.ours != 0 {
			extended = append(extended, u.oid)
		}
	}
	return []pkix.Extension{
		{Id: oidBasicConstraints, Critical: true, Value: mustMarshal(struct{}{})},
		{Id: oidKeyUsage, Critical: true, Value: mustMarshal(usage)},
		{Id: oidExtKeyUsage, Value: mustMarshal(extended)},
	}
}

// mustMarshal encodes values that can always be encoded.
func mustMarshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic("certs: " + err.Error())
	}
	return der
}
