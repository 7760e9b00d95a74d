package users

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"slipway.dev/slipway/certs"
)

// User is a client certificate that a person was given in a kubeconfig: all that is known of it but its key.
type User struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Serial number, in hexadecimal.
	Serial string `json:"serial"`
	// CA is the SHA-256 of the authority's certificate, in hexadecimal: with that authority goes the certificate.
	CA string `json:"ca"`
	// Issued is when it was given away first.
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"notAfter"`
	// By is who gave it away: "ana@workstation".
	By string `json:"by"`
}

// UserState is whether a certificate still opens the API.
type UserState string

// The states of certificates.
const (
	UserValid   UserState = "valid"
	UserExpired UserState = "expired"
	// UserOrphaned is of an authority that the cluster does not trust any more.
	UserOrphaned UserState = "not trusted"
)

// NewUser reads what a certificate says. cas are the authorities, in PEM, one of which has signed it.
func NewUser(cert, cas []byte, by string, now time.Time) (User, error) {
	found, err := certs.Parse(cert)
	if err != nil {
		return User{}, err
	}
	authorities, err := certs.Parse(cas)
	if err != nil {
		return User{}, err
	}
	c := found[0]
	i := slices.IndexFunc(authorities, func(ca *x509.Certificate) bool { return c.CheckSignatureFrom(ca) == nil })
	if i < 0 {
		return User{}, fmt.Errorf("the certificate of %s is not signed by the cluster's CA", c.Subject.CommonName)
	}
	return User{
		Name: c.Subject.CommonName, Groups: c.Subject.Organization, Serial: c.SerialNumber.Text(16), CA: certs.Fingerprint(authorities[i].Raw),
		Issued: now.UTC().Truncate(time.Second), NotAfter: c.NotAfter.UTC(), By: by,
	}, nil
}

// State says whether the certificate opens the API of a cluster that trusts cas, in PEM.
func (u User) State(cas []byte, now time.Time) UserState {
	authorities, err := certs.Parse(cas)
	trusted := err == nil && slices.ContainsFunc(authorities, func(ca *x509.Certificate) bool { return certs.Fingerprint(ca.Raw) == u.CA })
	switch {
	case !now.Before(u.NotAfter):
		return UserExpired
	case !trusted:
		return UserOrphaned
	}
	return UserValid
}

// Users are the kubeconfigs that were given away, in the order in which that was.
type Users []User

// usersVersion changes when an older slipway would misread the record.
const usersVersion = 1

// usersFile is the record as it is kept.
type usersFile struct {
	Version int   `json:"version"`
	Users   Users `json:"users"`
}

// ReadUsers reads what Encode wrote; of nothing there are none.
func ReadUsers(text []byte) (Users, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var f usersFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("read the record of kubeconfigs: %w", err)
	}
	if f.Version != usersVersion {
		return nil, fmt.Errorf("the record of kubeconfigs has format %d; this slipway knows %d: use the newer slipway that wrote it", f.Version, usersVersion)
	}
	return f.Users, nil
}

// Encode gives the record as it is kept.
func (us Users) Encode() ([]byte, error) { return json.Marshal(usersFile{usersVersion, us}) }

// Has says whether a certificate is recorded.
func (us Users) Has(u User) bool {
	return slices.ContainsFunc(us, func(o User) bool { return o.Serial == u.Serial && o.CA == u.CA })
}

// userMemory is how long a certificate is remembered that has expired.
const userMemory = 365 * 24 * time.Hour

// Add records a certificate once, and forgets those that expired a year ago.
func (us Users) Add(u User, now time.Time) Users {
	kept := slices.DeleteFunc(slices.Clone(us), func(o User) bool { return now.Sub(o.NotAfter) > userMemory })
	if kept.Has(u) {
		return kept
	}
	return append(kept, u)
}

// The bounds of what a person's certificate may be valid; CertificateSigningRequests cannot ask for less.
const (
	minUserValidity     = 10 * time.Minute
	defaultUserValidity = 365 * 24 * time.Hour
)

// UserValidity is how long a person's certificate is to be valid: what was asked for, or a year where that is 0, but never
// longer than the CA that signs it. cas are the authorities in PEM; the first signs.
func UserValidity(asked time.Duration, cas []byte, now time.Time) (time.Duration, error) {
	authorities, err := certs.Parse(cas)
	if err != nil {
		return 0, err
	}
	left := authorities[0].NotAfter.Sub(now)
	switch {
	case left < minUserValidity:
		return 0, fmt.Errorf("the cluster's CA ends on %s: nothing can be signed any more", authorities[0].NotAfter.Format(time.DateTime))
	case asked == 0:
		return min(defaultUserValidity, left), nil
	case asked < minUserValidity:
		return 0, fmt.Errorf("the validity %v is too short: Kubernetes issues certificates for %v and more", asked, minUserValidity)
	case asked > left:
		return 0, fmt.Errorf("the validity is too long: the cluster's CA ends on %s, in %d days", authorities[0].NotAfter.Format(time.DateOnly), int(left.Hours()/24))
	}
	return asked, nil
}

// CheckUser says what is wrong with a person's name and groups, all at once.
func CheckUser(name string, groups []string) error {
	errs := []error{checkSubject("user", name)}
	seen := map[string]bool{}
	for _, g := range groups {
		switch {
		case g == "system:masters":
			errs = append(errs, errors.New("group system:masters is refused: nothing can take its rights away until the certificate ends, "+
				"so the API server signs none; use a group of your own, and bind a role to it"))
		case seen[g]:
			errs = append(errs, fmt.Errorf("group %q is given twice", g))
		default:
			errs = append(errs, checkSubject("group", g))
		}
		seen[g] = true
	}
	return errors.Join(errs...)
}

// maxSubject is how long the parts of a certificate's subject may be (RFC 5280, appendix A.1).
const maxSubject = 64

func checkSubject(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the %s has no name", what)
	case strings.HasPrefix(name, "system:"):
		return fmt.Errorf("%s %q is refused: names that begin with system: are those of Kubernetes itself", what, name)
	case len(name) > maxSubject:
		return fmt.Errorf("%s %q... is longer than the %d bytes that a certificate has room for", what, name[:20], maxSubject)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) || strings.TrimSpace(name) != name:
		return fmt.Errorf("%s %q has characters that cannot be seen", what, name)
	}
	return nil
}
