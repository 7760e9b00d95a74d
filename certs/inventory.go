package certs

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math"
	"net/url"
	"slices"
	"time"
)

// Place is a kind of place where a certificate is used.
type Place string

// The places. The last three have no certificates: their entries say why those of a host or of the
// API, or the wanted ones, are unknown.
const (
	Served       Place = "served"              // served at Location, "address:port"
	InMemory     Place = "memory"              // served, made by the process and not in a file
	InFile       Place = "file"                // Location is the path
	InKubeconfig Place = "kubeconfig"          // Location is the path and the field
	InState      Place = "state"               // in the state; Location is the name
	TokenKeys    Place = "service-account-key" // a public key, without expiry, in a file or the state
	InWebhook    Place = "webhook"             // Location is the object and the webhook
	InAPIService Place = "apiservice"
	InCRD        Place = "crd" // of a conversion webhook
	InCSR        Place = "csr" // issued by the cluster's signers
	UnreadHost   Place = "host"
	UnreadAPI    Place = "api"
	UnreadSpec   Place = "spec"
)

// Use is a certificate or public key at a place where it is used. Its JSON format is stable.
type Use struct {
	// Host is empty for the API and the state.
	Host  string `json:"host,omitempty"`
	Place Place  `json:"place"`
	// Location is an address, a path or an object, depending on Place.
	Location string `json:"location,omitempty"`
	// Name is the name in the table, "apiserver@demo-cp-1"; empty if it is not in the table.
	Name string `json:"name,omitempty"`
	// Subject and Issuer are in the format of RFC 2253, "CN=admin,O=group". Both are empty for a
	// public key.
	Subject string   `json:"subject,omitempty"`
	SANs    []string `json:"sans,omitempty"`
	Issuer  string   `json:"issuer,omitempty"`
	// Serial is lower-case hexadecimal.
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// SHA256 of the DER encoding, lower-case hexadecimal.
	SHA256 string `json:"sha256,omitempty"`
	// KeyID is the ID of a service account's public key in token headers (kid).
	KeyID string `json:"keyID,omitempty"`
	// Error is why it could not be read.
	Error string `json:"error,omitempty"`
	// OnDisk reports whether the served certificate is the one in its file, Wanted whether it is
	// the one in the state, and Specified whether that one matches the spec. They are nil if this
	// is unknown or does not apply.
	OnDisk    *bool `json:"onDisk,omitempty"`
	Wanted    *bool `json:"wanted,omitempty"`
	Specified *bool `json:"specified,omitempty"`
	// Presented reports whether the client that has the certificate presents it on all connections;
	// nil if this is unknown or does not apply. It is false for minutes after a renewal.
	Presented *bool `json:"presented,omitempty"`
	// X509 is the certificate itself; nil for a public key, and if it could not be read.
	X509 *x509.Certificate `json:"-"`
	// Detail has a clause for each of the four that is false.
	Detail []string `json:"detail,omitempty"`
	// Level and DaysLeft (whole days, rounded down) are set by Judge.
	Level    Level `json:"level"`
	DaysLeft *int  `json:"daysLeft,omitempty"`
}

// Read returns a Use for each certificate or public key in the PEM blocks of a text. Private keys
// are skipped. For a block that cannot be read, or a text without any, it returns an entry with an
// Error.
func Read(at Use, text []byte) []Use {
	var uses []Use
	blocks := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		switch block.Type {
		case "CERTIFICATE":
			uses = append(uses, at.certificate(block.Bytes))
		case "PUBLIC KEY":
			uses = append(uses, at.publicKey(block.Bytes))
		}
	}
	switch begun := bytes.Count(text, []byte("-----BEGIN ")); {
	case begun > blocks: // pem.Decode skips damaged blocks
		uses = append(uses, at.unread("%d of its %d PEM blocks cannot be read", begun-blocks, begun))
	case len(uses) == 0:
		uses = append(uses, at.unread("it contains no certificate"))
	}
	return uses
}

func (u Use) unread(format string, args ...any) Use {
	u.Error = fmt.Sprintf(format, args...)
	return u
}

func (u Use) certificate(der []byte) Use {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return u.unread("certificate: %v", err)
	}
	return u.Of(c)
}

// Of returns u with the data of a certificate.
func (u Use) Of(c *x509.Certificate) Use {
	u.X509 = c
	u.Subject, u.Issuer = c.Subject.String(), c.Issuer.String()
	u.SANs = slices.Concat(c.DNSNames, texts(addresses(c)), c.EmailAddresses, urls(c.URIs))
	u.Serial = fmt.Sprintf("%x", c.SerialNumber)
	u.NotBefore, u.NotAfter = c.NotBefore.UTC(), c.NotAfter.UTC()
	u.SHA256 = Fingerprint(c.Raw)
	return u
}

// publicKey computes a key's ID like Kubernetes: the hash of its PKIX encoding
// (k8s.io/kubernetes/pkg/serviceaccount/jwt.go).
func (u Use) publicKey(der []byte) Use {
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return u.unread("public key: %v", err)
	}
	sum := sha256.Sum256(der)
	u.Place = TokenKeys
	u.KeyID, u.SHA256 = base64.RawURLEncoding.EncodeToString(sum[:]), Fingerprint(der)
	return u
}

// Fingerprint returns the SHA-256 of a DER encoding, in lower-case hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func urls(list []*url.URL) []string {
	out := make([]string, len(list))
	for i, u := range list {
		out[i] = u.String()
	}
	return out
}

// AgainstDisk records whether the served certificate is the one in its file. A server presents the
// first certificate of its file.
func (u *Use) AgainstDisk(file Use) {
	if u.SHA256 == "" || file.SHA256 == "" {
		return
	}
	same := u.SHA256 == file.SHA256
	u.OnDisk = &same
	if !same {
		u.Detail = append(u.Detail, fmt.Sprintf("served is not what is on disk: %s has serial %s, expires %s",
			file.Location, file.Serial, file.NotAfter.Format(time.DateOnly)))
	}
}

// AgainstConnections records whether a client presents the certificate, or still has connections
// from before its renewal.
func (u *Use) AgainstConnections(client string, presented bool) {
	u.Presented = &presented
	if !presented {
		u.Detail = append(u.Detail, "not presented yet: "+client+" still has connections from before the renewal")
	}
}

// AgainstState records whether the certificate is the one in the state: one of wanted. If wanted is
// empty, this is unknown.
func (u *Use) AgainstState(wanted []Use) {
	if u.SHA256 == "" || len(wanted) == 0 {
		return
	}
	same := slices.ContainsFunc(wanted, u.same)
	u.Wanted = &same
	if !same {
		detail := "not what the state has"
		if w := wanted[0]; w.Serial != "" {
			detail += ": serial " + w.Serial + ", expires " + w.NotAfter.Format(time.DateOnly)
		}
		u.Detail = append(u.Detail, detail)
	}
}

// AgainstSpec records whether the items in have match the spec, everywhere they are used. changes
// are those that Ensure made to have, left pending, or that need a rotation. Expiry is ignored
// here, because Judge handles it.
func AgainstSpec(uses []Use, have Material, changes []Change) {
	differs := map[string]string{} // by name
	for _, c := range changes {
		if c.Reason != Expiring {
			differs[c.Name] = c.Detail
		}
	}
	asked := map[string]string{} // by fingerprint
	for name, item := range have {
		for _, u := range Read(Use{}, item.First()) { // not the parents of a CA
			if u.Serial != "" {
				asked[u.SHA256] = differs[name]
			}
		}
	}
	for i := range uses {
		u := &uses[i]
		detail, known := asked[u.SHA256]
		if !known {
			continue
		}
		same := detail == ""
		u.Specified = &same
		if !same {
			u.Detail = append(u.Detail, "not what the spec asks for: "+detail)
		}
	}
}

func (u *Use) same(other Use) bool { return u.SHA256 == other.SHA256 }

// Lacking returns an entry with an Error for each wanted certificate that is not in have: a bundle
// that lacks a CA. It returns none if have contains no wanted certificate at all, because each
// entry of have already says so.
func Lacking(at Use, have, wanted []Use) []Use {
	var missing []Use
	for _, w := range wanted {
		if w.SHA256 != "" && !slices.ContainsFunc(have, w.same) {
			missing = append(missing, at.unread("lacks %s (serial %s), which is in the state", w.Subject, w.Serial))
		}
	}
	if len(missing) == len(wanted) {
		return nil
	}
	return missing
}

// Level is an urgency. Its numbers are the exit codes of Nagios checks.
type Level int

// The levels. Unknown means that it could not be read.
const (
	OK Level = iota
	Warning
	Critical
	Unknown
)

var levelNames = [...]string{OK: "ok", Warning: "warning", Critical: "critical", Unknown: "unknown"}

func (l Level) String() string { return levelNames[l] }

// MarshalText writes a level as its name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// severity orders levels: known problems come before unknown ones.
var severity = map[Level]int{OK: 0, Unknown: 1, Warning: 2, Critical: 3}

// Judge sets the level and the days left of each, and returns the worst level. Critical means that
// it expires within crit, has expired or is not valid yet. Warning means that it expires within
// warn, is not what its file or the state has, or does not match the spec.
func Judge(uses []Use, warn, crit time.Duration, now time.Time) Level {
	worst := OK
	for i := range uses {
		u := &uses[i]
		u.Level = u.level(warn, crit, now)
		if !u.NotAfter.IsZero() {
			days := int(math.Floor(u.NotAfter.Sub(now).Hours() / 24))
			u.DaysLeft = &days
		}
		if severity[u.Level] > severity[worst] {
			worst = u.Level
		}
	}
	return worst
}

func (u *Use) level(warn, crit time.Duration, now time.Time) Level {
	ends := !u.NotAfter.IsZero() && u.Place != InCSR // those of people are meant to expire
	left := u.NotAfter.Sub(now)
	switch {
	case u.Error != "":
		return Unknown
	case ends && (left <= max(crit, 0) || now.Before(u.NotBefore)):
		return Critical
	case ends && left <= warn || u.mismatch():
		return Warning
	}
	return OK
}

func (u *Use) mismatch() bool {
	is := func(b *bool) bool { return b == nil || *b }
	return !is(u.OnDisk) || !is(u.Wanted) || !is(u.Specified)
}

// Sort orders by urgency: by the levels that Judge has set, then by expiry. Entries without an
// expiry, or that could not be read, come last in their level. Ties are ordered by host, place and
// location.
func Sort(uses []Use) {
	endless := func(u Use) int {
		if u.NotAfter.IsZero() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(uses, func(a, b Use) int {
		return cmp.Or(cmp.Compare(severity[b.Level], severity[a.Level]), cmp.Compare(endless(a), endless(b)), a.NotAfter.Compare(b.NotAfter),
			cmp.Compare(a.Host, b.Host), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Location, b.Location), cmp.Compare(a.Serial, b.Serial))
	})
}

// Remarks returns the problems of a use besides its expiry, one clause each.
func (u Use) Remarks(now time.Time) []string {
	var all []string
	if u.Error != "" {
		all = append(all, u.Error)
	}
	switch {
	case u.NotAfter.IsZero():
	case now.After(u.NotAfter):
		all = append(all, "has expired")
	case now.Before(u.NotBefore):
		all = append(all, "is not valid before "+u.NotBefore.Format(time.RFC3339))
	}
	return append(all, u.Detail...)
}
