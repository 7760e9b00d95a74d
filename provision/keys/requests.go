package keys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
)

// Request makes signing requests for the certificates that patterns name, or for all that are pending.
func (s *Secrets) Request(ctx context.Context, policy certs.Policy, patterns []string) ([]IndexEntry, error) {
	names, err := Renewals(patterns, s.PKI.Requests)
	if err != nil {
		return nil, err
	}
	requests, err := s.PKI.SigningRequests(ctx, policy)
	if err != nil {
		return nil, err
	}
	s.Requested = slices.ContainsFunc(requests, func(r certs.SigningRequest) bool { return r.New })
	return Chosen(newIndex(requests, policy), names)
}

// IndexEntry has the contents of a signing request, and the data that a request cannot contain.
type IndexEntry struct {
	Name              string   `json:"name"`
	File              string   `json:"file"`
	Authority         string   `json:"authority"`
	CommonName        string   `json:"commonName"`
	Organizations     []string `json:"organizations,omitempty"`
	DNSNames          []string `json:"dnsNames,omitempty"`
	IPAddresses       []string `json:"ipAddresses,omitempty"`
	KeyUsages         []string `json:"keyUsages"`
	ExtendedKeyUsages []string `json:"extendedKeyUsages"`
	// Validity is the validity that spec.pki.leafValidity or adminValidity wants, in hours; the
	// signer decides.
	Validity float64 `json:"validityHours"`
	// Reason is why a certificate is wanted.
	Reason string `json:"reason"`

	// CSR is the request in PEM.
	CSR []byte `json:"-"`
}

func newIndex(requests []certs.SigningRequest, policy certs.Policy) []IndexEntry {
	var index []IndexEntry
	for _, r := range requests {
		q := r.Request
		e := IndexEntry{
			Name: q.Name, File: strings.NewReplacer("/", "_", "@", ".").Replace(q.Name) + ".csr", Authority: q.CA,
			CommonName: q.CommonName, Organizations: q.Organizations, DNSNames: q.DNSNames,
			KeyUsages: r.KeyUsages, ExtendedKeyUsages: r.ExtendedKeyUsages, Validity: policy.Lifetime(q).Hours(), Reason: r.Reason, CSR: r.CSR,
		}
		for _, ip := range q.IPs {
			e.IPAddresses = append(e.IPAddresses, ip.String())
		}
		index = append(index, e)
	}
	return index
}

// Chosen returns the entries of some names, or all.
func Chosen(index []IndexEntry, names []string) ([]IndexEntry, error) {
	if len(names) == 0 {
		return index, nil
	}
	var some []IndexEntry
	for _, name := range names {
		i := slices.IndexFunc(index, func(e IndexEntry) bool { return e.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("certificate %q has no external CA: `slipway certs renew %s` renews it", name, name)
		}
		some = append(some, index[i])
	}
	return some, nil
}

// Import replaces pending requests by their signed certificates.
func (s *Secrets) Import(signed []certs.Signed, policy certs.Policy) ([]string, error) {
	names, err := s.PKI.Import(signed, policy, time.Now())
	if err != nil {
		return nil, fmt.Errorf("not all certificates fit, and none was imported:\n%w", err)
	}
	s.Requested = len(names) > 0
	return names, nil
}
