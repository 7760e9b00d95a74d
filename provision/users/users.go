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

// User is a client certificate that was issued to a person in a kubeconfig: everything except its
// key.
type User struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Serial number, in hexadecimal.
	Serial string `json:"serial"`
	// CA is the SHA-256 of the CA's certificate, in hexadecimal: the certificate is valid only as
	// long as that CA is trusted.
	CA string `json:"ca"`
	// Issued is when it was first issued.
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"notAfter"`
	// By is who issued it: "ana@workstation".
	By string `json:"by"`
}

// UserState is whether the API accepts a certificate.
type UserState string

// The states of certificates.
const (
	UserValid   UserState = "valid"
	UserExpired UserState = "expired"
	// UserOrphaned means that the cluster no longer trusts its CA.
	UserOrphaned UserState = "not trusted"
)

// NewUser reads a certificate. cas are the CAs, in PEM, one of which has signed it.
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

// State reports whether a cluster that trusts cas, in PEM, accepts the certificate.
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

// Users are the issued kubeconfigs, in order of issue.
type Users []User

// usersVersion changes if an older slipway would misread the record.
const usersVersion = 1

// usersFile is the stored form of the record.
type usersFile struct {
	Version int   `json:"version"`
	Users   Users `json:"users"`
}

// ReadUsers parses the output of Encode; an empty text has no users.
func ReadUsers(text []byte) (Users, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var f usersFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("read the record of kubeconfigs: %w", err)
	}
	if f.Version != usersVersion {
		return nil, fmt.Errorf("the record of kubeconfigs has format %d; this slipway reads %d: use the newer slipway that wrote it", f.Version, usersVersion)
	}
	return f.Users, nil
}

// Encode returns the record in its stored form.
func (us Users) Encode() ([]byte, error) { return json.Marshal(usersFile{usersVersion, us}) }

// Has reports whether a certificate is recorded.
func (us Users) Has(u User) bool {
	return slices.ContainsFunc(us, func(o User) bool { return o.Serial == u.Serial && o.CA == u.CA })
}

// userMemory is how long an expired certificate stays recorded.
const userMemory = 365 * 24 * time.Hour

// Add records a certificate once, and removes those that expired a year ago.
func (us Users) Add(u User, now time.Time) Users {
	kept := slices.DeleteFunc(slices.Clone(us), func(o User) bool { return now.Sub(o.NotAfter) > userMemory })
	if kept.Has(u) {
		return kept
	}
	return append(kept, u)
}

// The bounds of a person's certificate validity; CertificateSigningRequests cannot request less.
const (
	minUserValidity     = 10 * time.Minute
	defaultUserValidity = 365 * 24 * time.Hour
)

// UserValidity returns the validity of a person's certificate: the requested one, or a year if that
// is 0, but never longer than that of the CA that signs it. cas are the CAs in PEM; the first
// signs.
func UserValidity(asked time.Duration, cas []byte, now time.Time) (time.Duration, error) {
	authorities, err := certs.Parse(cas)
	if err != nil {
		return 0, err
	}
	left := authorities[0].NotAfter.Sub(now)
	switch {
	case left < minUserValidity:
		return 0, fmt.Errorf("the cluster's CA expires on %s: it can sign nothing any more", authorities[0].NotAfter.Format(time.DateTime))
	case asked == 0:
		return min(defaultUserValidity, left), nil
	case asked < minUserValidity:
		return 0, fmt.Errorf("the validity %v is too short: Kubernetes issues certificates for %v and more", asked, minUserValidity)
	case asked > left:
		return 0, fmt.Errorf("the validity is too long: the cluster's CA expires on %s, in %d days",
			authorities[0].NotAfter.Format(time.DateOnly), int(left.Hours()/24))
	}
	return asked, nil
}

// CheckUser returns all errors in a person's name and groups.
func CheckUser(name string, groups []string) error {
	errs := []error{checkSubject("user", name)}
	seen := map[string]bool{}
	for _, g := range groups {
		switch {
		case g == "system:masters":
			errs = append(errs, errors.New("group system:masters is refused: its rights cannot be revoked before the certificate expires, "+
				"so the API server signs none; use a group of your own, and bind a role to it"))
		case seen[g]:
			errs = append(errs, fmt.Errorf("group %q is repeated", g))
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
		return fmt.Errorf("%s %q is refused: names that begin with system: are reserved for Kubernetes", what, name)
	case len(name) > maxSubject:
		return fmt.Errorf("%s %q... is longer than the %d bytes that a certificate allows", what, name[:20], maxSubject)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) || strings.TrimSpace(name) != name:
		return fmt.Errorf("%s %q has invisible characters", what, name)
	}
	return nil
}
