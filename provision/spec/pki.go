package spec

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// CADuration returns the validity of CAs. Only call it on a loaded spec.
func (p PKI) CADuration() time.Duration { return validDuration(p.CAValidity) }

// LeafDuration returns the validity of all other certificates. Only call it on a loaded spec.
func (p PKI) LeafDuration() time.Duration { return validDuration(p.LeafValidity) }

// AdminDuration returns the validity of the administrators' certificates. Only call it on a loaded
// spec.
func (p PKI) AdminDuration() time.Duration {
	return validDuration(cmp.Or(p.AdminValidity, p.LeafValidity))
}

// CSRDuration returns the maximum validity of certificates that the cluster signs for others. Only
// call it on a loaded spec.
func (p PKI) CSRDuration() time.Duration { return validDuration(cmp.Or(p.CSRValidity, p.LeafValidity)) }

// RenewalDuration returns how long before they expire certificates are renewed; 0 means the
// default.
func (p PKI) RenewalDuration() time.Duration { return validDuration(p.RenewalWindow) }

// validDuration parses a validated duration. It returns 0 for an empty one, and for a spec that was
// not loaded.
func validDuration(s string) time.Duration {
	d, err := ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

func validatePKI(d *document, p PKI) {
	ca, caOK := d.validity("spec.pki.caValidity", p.CAValidity)
	leaf, leafOK := d.validity("spec.pki.leafValidity", p.LeafValidity)
	if caOK && leafOK && leaf > ca {
		path := "spec.pki.leafValidity"
		if !d.present(path) {
			path = "spec.pki.caValidity"
		}
		d.judge(path, "make leafValidity shorter or caValidity longer",
			"certificates (%s) would outlive their CAs (%s)", p.LeafValidity, p.CAValidity)
	}
	for name, value := range map[string]string{"adminValidity": p.AdminValidity, "csrValidity": p.CSRValidity} {
		path := "spec.pki." + name
		if value == "" {
			continue
		}
		if v, ok := d.validity(path, value); ok && caOK && v > ca {
			d.judge(path, "make "+name+" shorter or caValidity longer", "certificates (%s) would outlive their CAs (%s)", value, p.CAValidity)
		}
	}
	if leafOK && p.RenewalWindow != "" {
		validateWindow(d, p, leaf)
	}
	validateSubject(d, p.Subject)
	validateKubeletDomains(d, p.KubeletDomains)
	validateAuthorities(d, p.Authorities)
}

func validateKubeletDomains(d *document, domains []string) {
	for i, domain := range domains {
		path := fmt.Sprintf("spec.pki.kubeletDomains[%d]", i)
		if len(validation.IsDNS1123Subdomain(domain)) > 0 {
			d.judge(path, "write lower-case DNS labels joined by dots, such as nodes.example.com", "%q is not a DNS domain", domain)
		}
	}
}

func validateAuthorities(d *document, own Authorities) {
	for name, a := range map[string]*Authority{"kubernetes": own.Kubernetes, "etcd": own.Etcd, "frontProxy": own.FrontProxy} {
		if a != nil {
			d.filePath("spec.pki.authorities."+name+".certFile", a.CertFile)
			d.filePath("spec.pki.authorities."+name+".keyFile", a.KeyFile)
		}
	}
}

// validateWindow ensures that a certificate is used for at least a fifth of its lifetime before it
// is due for renewal.
func validateWindow(d *document, p PKI, leaf time.Duration) {
	const path = "spec.pki.renewalWindow"
	window, ok := d.validity(path, p.RenewalWindow)
	if ok && window > leaf/5*4 {
		d.judge(path, "make renewalWindow shorter or leafValidity longer",
			"%s is more than four fifths of leafValidity (%s): new certificates would be due at once", p.RenewalWindow, p.LeafValidity)
	}
}

func (d *document) validity(path, value string) (time.Duration, bool) {
	if d.isBad(path) {
		return 0, false
	}
	v, err := ParseDuration(value)
	switch {
	case err != nil:
		d.judge(path, `write years, days, hours or minutes, such as "30y", "90d", "12h", "15m" or "1y30d"`, "%v", err)
	case v > maxValidity:
		d.judge(path, "write at most 100y", "%s is longer than 100 years", value)
	case v < minValidity:
		d.judge(path, "write at least 1m", "%s is shorter than a minute", value)
	default:
		return v, true
	}
	return 0, false
}

// filePath refuses the home directories of other users.
func (d *document) filePath(path, file string) {
	if strings.HasPrefix(file, "~") && !strings.HasPrefix(file, "~/") {
		d.judge(path, "write the path of a file, such as ~/pki/ca.crt", "%q is not a file: ~ is only supported as ~/, your own home", file)
	}
}

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

// validateSubject checks values against the upper bounds of X.520 (RFC 5280, appendix A.1).
func validateSubject(d *document, s Subject) {
	for _, f := range []struct {
		name   string
		values []string
		max    int
	}{
		{"organizationalUnits", s.OrganizationalUnits, 64},
		{"countries", s.Countries, 2},
		{"provinces", s.Provinces, 128},
		{"localities", s.Localities, 128},
	} {
		seen := map[string]int{}
		for i, value := range f.values {
			path := fmt.Sprintf("spec.pki.subject.%s[%d]", f.name, i)
			first, again := seen[value]
			switch {
			case value == "": // judged already
			case again:
				d.judge(path, "remove it", "%q is %s[%d] already", value, f.name, first)
			case f.name == "countries" && !countryCode.MatchString(value):
				d.judge(path, "write two capital letters, such as DE", "%q is not a country code (ISO 3166)", value)
			case len([]rune(value)) > f.max:
				d.judge(path, "shorten it", "has %d characters, more than %d", len([]rune(value)), f.max)
			default:
				seen[value] = i
			}
		}
	}
}

// validateSANs checks a list of names and addresses for certificates.
func validateSANs(d *document, at string, sans []string) {
	seen := map[string]int{}
	for i, san := range sans {
		path := fmt.Sprintf("%s[%d]", at, i)
		if first, ok := seen[san]; ok && san != "" {
			d.judge(path, "remove it", "%q is certSANs[%d] already", san, first)
			continue
		}
		seen[san] = i
		if !isHost(san) && len(validation.IsWildcardDNS1123Subdomain(san)) > 0 {
			d.judge(path, "write a lower-case DNS name or an IP address alone, without scheme or port", "%q is neither a DNS name nor an IP address", san)
		}
	}
}
