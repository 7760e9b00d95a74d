package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Reason says in a few words why an item was issued, or why a CA differs from the request.
type Reason string

// The reasons. An item that differs in several ways has only one.
const (
	Missing          Reason = "missing"
	SignedByAnother  Reason = "signed by another CA"
	SubjectChanged   Reason = "subject changed"
	SANsChanged      Reason = "SANs changed"
	UsagesChanged    Reason = "usages changed"
	AlgorithmChanged Reason = "key algorithm changed"
	ValidityChanged  Reason = "validity changed"
	AuthorityChanged Reason = "authority changed"
	Renewed          Reason = "the spec has a new certificate or key"
	Expiring         Reason = "expires soon"
	Requested        Reason = "renewal was requested"
)

// Change is an item with the reason why it was issued. It contains no secrets.
type Change struct {
	Name   string
	Reason Reason
	// Detail is a clause with the details, for example "SANs changed: +10.0.0.4 -old.example.com".
	Detail string
}

func (c Change) String() string { return c.Name + ": " + c.Detail }

// verdict is the decision about one request. It keeps the item, unless there is a change, to issue
// it, or an error, because it is damaged.
type verdict struct {
	change *Change
	drift  *Change // how a CA that is kept differs
	err    error
}

// checkAll decides about requests in parallel: to verify a thousand signatures takes a while.
func (e *ensurer) checkAll(requests []Request) []verdict {
	verdicts := make([]verdict, len(requests))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, q := range requests {
		group.Go(func() error {
			verdicts[i] = e.check(q)
			return nil
		})
	}
	_ = group.Wait() // the errors are in the verdicts
	return verdicts
}

// check decides about one request.
func (e *ensurer) check(q Request) verdict {
	if q.Kind == Leaf && e.issuers[q.CA] == nil {
		return verdict{err: fmt.Errorf("no request for its CA %q", q.CA)}
	}
	item, ok := e.have[q.Name]
	if !ok {
		if e.dependedOn(q) {
			return verdict{err: ErrLost}
		}
		return verdict{change: &Change{q.Name, Missing, string(Missing)}}
	}
	switch q.Kind {
	case KeyPair:
		return verdict{err: checkKeyPair(item)}
	case Authority:
		return e.checkAuthority(q, item)
	}
	cert, _, err := load(item)
	if err != nil {
		return verdict{err: err}
	}
	if err := e.begun(cert); err != nil {
		return verdict{err: err}
	}
	change := e.leafDiffers(q, cert, e.issuers[q.CA])
	if change == nil && (slices.Contains(e.policy.Renew, q.Name) || e.waits(q, cert)) {
		change = &Change{q.Name, Requested, string(Requested)}
	}
	return verdict{change: change}
}

func (e *ensurer) begun(cert *x509.Certificate) error {
	if e.now.Before(cert.NotBefore) {
		return fmt.Errorf("%w (valid from %s)", ErrNotYetValid, cert.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// dependedOn reports whether material exists that a new CA or key pair would invalidate. Material
// does not say which tokens a key pair has signed, so for a key pair any material counts.
func (e *ensurer) dependedOn(q Request) bool {
	switch q.Kind {
	case KeyPair:
		return len(e.have) > 0
	case Authority:
		return slices.ContainsFunc(e.requests, func(leaf Request) bool {
			_, ok := e.have[leaf.Name]
			return ok && leaf.Kind == Leaf && leaf.CA == q.Name
		})
	default:
		return false
	}
}

// checkAuthority refuses a CA that cannot sign, and reports differences from the request and from
// the user's CA. If it is the same CA, the user's new certificate or key is used.
func (e *ensurer) checkAuthority(q Request, item Item) verdict {
	own, given := e.own[q.Name]
	by, err := loadAuthority(item, given || slices.Contains(e.policy.Replaced, q.Name))
	if err != nil {
		return verdict{err: err}
	}
	if given && sameAuthority(by.cert, own) && !equalItems(item, own) {
		return verdict{change: &Change{q.Name, Renewed, string(Renewed)}}
	}
	if err := e.begun(by.cert); err != nil {
		return verdict{err: err}
	}
	switch {
	case !maySign(by.cert):
		return verdict{err: ErrNotAuthority}
	case e.now.After(by.cert.NotAfter):
		return verdict{err: fmt.Errorf("%w (on %s)", ErrExpired, by.cert.NotAfter.Format(time.DateOnly))}
	}
	return verdict{drift: e.authorityDiffers(q, by.cert)}
}

// maySign reports whether a certificate is a CA's. Without key usages, there is no restriction.
func maySign(cert *x509.Certificate) bool {
	return cert.IsCA && cert.BasicConstraintsValid && (cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageCertSign != 0)
}

func (e *ensurer) authorityDiffers(q Request, cert *x509.Certificate) *Change {
	own, given := e.own[q.Name]
	switch k := e.policy.keyOf(q); {
	case given && !sameAuthority(cert, own):
		return differs(q, AuthorityChanged, "is %q, but the spec names another; `slipway certs rotate-ca` replaces it", cert.Subject)
	case e.now.Add(renewalWindow(cert.NotAfter.Sub(cert.NotBefore))).After(cert.NotAfter):
		return &Change{q.Name, Expiring, e.expires(cert)}
	case given:
		return nil
	case cert.Subject.CommonName != q.CommonName:
		return differs(q, SubjectChanged, "CN is %q, wanted %q", cert.Subject.CommonName, q.CommonName)
	case e.policy.Subject.differs(cert.Subject) != "":
		return differs(q, SubjectChanged, "%s", e.policy.Subject.differs(cert.Subject))
	case algorithmOf(cert.PublicKey) != k:
		return differs(q, AlgorithmChanged, "is %s, wanted %s", algorithmOf(cert.PublicKey), k)
	}
	return nil
}

// leafDiffers compares a leaf with the request and the policy.
func (e *ensurer) leafDiffers(q Request, cert *x509.Certificate, by *issuer) *Change {
	names, ips := slices.Sorted(slices.Values(cert.DNSNames)), addresses(cert)
	switch subject, usages := e.policy.subjectDiffers(q, cert.Subject), usagesOf(q, cert, by.key == nil); {
	case cert.CheckSignatureFrom(by.cert) != nil:
		return &Change{q.Name, SignedByAnother, string(SignedByAnother)}
	case subject != "":
		return differs(q, SubjectChanged, "%s", subject)
	case !slices.Equal(names, q.DNSNames) || !slices.Equal(ips, q.IPs):
		return differs(q, SANsChanged, "%s", delta(append(names, texts(ips)...), append(slices.Clone(q.DNSNames), texts(q.IPs)...)))
	case usages != "":
		return differs(q, UsagesChanged, "%s", usages)
	case algorithmOf(cert.PublicKey) != e.policy.KeyAlgorithm:
		return differs(q, AlgorithmChanged, "is %s, wanted %s", algorithmOf(cert.PublicKey), e.policy.KeyAlgorithm)
	}
	return e.endDiffers(q, cert, by)
}

// subjectDiffers says how the subject of a leaf, or of a signing request, differs from q and the
// policy.
func (p Policy) subjectDiffers(q Request, name pkix.Name) string {
	switch {
	case name.CommonName != q.CommonName:
		return fmt.Sprintf("CN is %q, wanted %q", name.CommonName, q.CommonName)
	case !slices.Equal(name.Organization, q.Organizations):
		return fmt.Sprintf("O is %q, wanted %q", name.Organization, q.Organizations)
	}
	return p.Subject.differs(name)
}

// endDiffers checks a leaf's validity. The wanted end is computed from the start of the
// certificate's validity, so the comparison only changes if the policy does. An external CA decides
// about the validity, so it is not compared.
func (e *ensurer) endDiffers(q Request, cert *x509.Certificate, by *issuer) *Change {
	latest, lifetime := by.end, e.policy.Lifetime(q)
	if by.key != nil {
		if want := leafEnd(cert.NotBefore, lifetime, by); !cert.NotAfter.Equal(want) {
			layout := time.DateOnly
			if cert.NotAfter.Format(layout) == want.Format(layout) {
				layout = time.RFC3339
			}
			return differs(q, ValidityChanged, "ends %s, wanted %s", cert.NotAfter.Format(layout), want.Format(layout))
		}
		latest = leafEnd(leafBegin(e.now, lifetime, by), lifetime, by)
	}
	// Close to the end of its CA, a new leaf would end no later: only a rotation helps, and
	// PKI.Drift says so.
	due := e.now.Add(e.policy.window(cert.NotAfter.Sub(cert.NotBefore))).After(cert.NotAfter)
	if due && latest.After(cert.NotAfter) {
		return &Change{q.Name, Expiring, e.expires(cert)}
	}
	return nil
}

func (e *ensurer) expires(cert *x509.Certificate) string {
	left := cert.NotAfter.Sub(e.now)
	switch {
	case left < 0:
		return "expired on " + cert.NotAfter.Format(time.DateOnly)
	case left < 2*time.Hour:
		return fmt.Sprintf("expires in %d minutes", left/time.Minute)
	case left < 2*day:
		return fmt.Sprintf("expires in %d hours", left/time.Hour)
	default:
		return fmt.Sprintf("expires in %d days", left/day)
	}
}

func differs(q Request, r Reason, format string, args ...any) *Change {
	return &Change{Name: q.Name, Reason: r, Detail: string(r) + ": " + fmt.Sprintf(format, args...)}
}

// usagesOf says how the usages of a certificate differ from the request, or "". An external CA may
// add key usages, but no extended key usages.
func usagesOf(q Request, cert *x509.Certificate, elsewhere bool) string {
	var got Usage
	for _, u := range cert.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageClientAuth:
			got |= ClientAuth
		case x509.ExtKeyUsageServerAuth:
			got |= ServerAuth
		default:
			return fmt.Sprintf("has a usage that was not requested (x509 number %d)", u)
		}
	}
	want := x509.KeyUsageDigitalSignature
	if cert.PublicKeyAlgorithm == x509.RSA {
		want |= x509.KeyUsageKeyEncipherment
	}
	switch {
	case got != q.Usages:
		return fmt.Sprintf("is for %q, wanted %q", got, q.Usages)
	case elsewhere && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return "lacks the key usage digitalSignature"
	case !elsewhere && cert.KeyUsage != want:
		return fmt.Sprintf("key usage is %#x, wanted %#x", int(cert.KeyUsage), int(want))
	case cert.IsCA:
		return "is a CA certificate"
	}
	return ""
}

func addresses(cert *x509.Certificate) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			ips = append(ips, a.Unmap())
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return ips
}

func texts(ips []netip.Addr) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}

// delta lists what to add (+) to have, and what to remove (-), to get want.
func delta(have, want []string) string {
	var d []string
	for _, w := range want {
		if !slices.Contains(have, w) {
			d = append(d, "+"+w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			d = append(d, "-"+h)
		}
	}
	return strings.Join(d, " ")
}
