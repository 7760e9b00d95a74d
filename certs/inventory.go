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

// Place is the kind of place where a certificate is used.
type Place string

// The places. The last three hold no certificate: their entries say why those there, or what is wanted, are not known.
const (
	Served       Place = "served"              // shown to whoever connects to Location, "address:port"
	InMemory     Place = "memory"              // shown likewise, but made by the process itself: it is in no file
	InFile       Place = "file"                // Location is the path
	InKubeconfig Place = "kubeconfig"          // Location is the path and the field
	InState      Place = "state"               // the operator's, in the state store; Location is the name
	TokenKeys    Place = "service-account-key" // a public key, without an end, in a file or in the state
	InWebhook    Place = "webhook"             // Location is the object and the webhook
	InAPIService Place = "apiservice"
	InCRD        Place = "crd" // of a conversion webhook
	InCSR        Place = "csr" // issued by the cluster's own signers
	UnreadHost   Place = "host"
	UnreadAPI    Place = "api"
	UnreadSpec   Place = "spec"
)

// Use is one certificate, or one public key, at one place where it is used. Its JSON form is stable.
type Use struct {
	// Host is empty for what is in the API or the state.
	Host  string `json:"host,omitempty"`
	Place Place  `json:"place"`
	// Location is an address, a path or an object, by Place.
	Location string `json:"location,omitempty"`
	// Name is the table's, "apiserver@demo-cp-1"; empty for what the table does not have.
	Name string `json:"name,omitempty"`
	// Subject and Issuer are as RFC 2253 writes them, "CN=admin,O=group". Both are empty for a public key.
	Subject string   `json:"subject,omitempty"`
	SANs    []string `json:"sans,omitempty"`
	Issuer  string   `json:"issuer,omitempty"`
	// Serial is lower-case hexadecimal.
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// SHA256 is of the DER, lower-case hexadecimal.
	SHA256 string `json:"sha256,omitempty"`
	// KeyID is what the header of a token calls a service account's public key (kid).
	KeyID string `json:"keyID,omitempty"`
	// Error is why it could not be read.
	Error string `json:"error,omitempty"`
	// OnDisk says whether what is served is in the file that it is served from, Wanted whether it is what the state has, and
	// Specified whether that is what the spec asks for. They are nil where that is not known, or makes no sense.
	OnDisk    *bool `json:"onDisk,omitempty"`
	Wanted    *bool `json:"wanted,omitempty"`
	Specified *bool `json:"specified,omitempty"`
	// Detail has a clause for each of the three that is false.
	Detail []string `json:"detail,omitempty"`
	// Level and DaysLeft (whole days, rounded down) are Judge's.
	Level    Level `json:"level"`
	DaysLeft *int  `json:"daysLeft,omitempty"`
}

// Read gives a Use for each certificate or public key among the PEM blocks of a text, at a place. Private keys are
// passed over. What cannot be read is an entry with an Error; a text that has nothing is one, too.
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
	case begun > blocks: // pem.Decode skips what is damaged
		uses = append(uses, at.unread("%d of its %d PEM blocks cannot be read", begun-blocks, begun))
	case len(uses) == 0:
		uses = append(uses, at.unread("it holds no certificate"))
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

// Of fills in what a certificate says.
func (u Use) Of(c *x509.Certificate) Use {
	u.Subject, u.Issuer = c.Subject.String(), c.Issuer.String()
	u.SANs = slices.Concat(c.DNSNames, texts(addresses(c)), c.EmailAddresses, urls(c.URIs))
	u.Serial = fmt.Sprintf("%x", c.SerialNumber)
	u.NotBefore, u.NotAfter = c.NotBefore.UTC(), c.NotAfter.UTC()
	u.SHA256 = Fingerprint(c.Raw)
	return u
}

// publicKey names a key as tokens do: the hash of its PKIX form (k8s.io/kubernetes/pkg/serviceaccount/jwt.go).
func (u Use) publicKey(der []byte) Use {
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return u.unread("public key: %v", err)
	}
	sum := sha256.Sum256(der)
	u.Place = TokenKeys
	u.KeyID, u.SHA256 = base64.RawURLEncoding.EncodeToString(sum[:]), Fingerprint(der)
	return u
}

// Fingerprint is the SHA-256 of a DER, lower-case hexadecimal.
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

// AgainstDisk records whether what is served is what its file has. A server shows the first certificate of its file.
func (u *Use) AgainstDisk(file Use) {
	if u.SHA256 == "" || file.SHA256 == "" {
		return
	}
	same := u.SHA256 == file.SHA256
	u.OnDisk = &same
	if !same {
		u.Detail = append(u.Detail, fmt.Sprintf("served is not what is on disk: %s has serial %s, ends %s",
			file.Location, file.Serial, file.NotAfter.Format(time.DateOnly)))
	}
}

// AgainstState records whether the state has the certificate at its place: it is one of wanted, which may be empty
// where that is not known.
func (u *Use) AgainstState(wanted []Use) {
	if u.SHA256 == "" || len(wanted) == 0 {
		return
	}
	same := slices.ContainsFunc(wanted, u.same)
	u.Wanted = &same
	if !same {
		detail := "not what the state has"
		if w := wanted[0]; w.Serial != "" {
			detail += ": serial " + w.Serial + ", ends " + w.NotAfter.Format(time.DateOnly)
		}
		u.Detail = append(u.Detail, detail)
	}
}

// AgainstSpec records whether what have has is what the spec asks for, wherever it is used; changes are those that Ensure
// made to have, left pending, or says would take a rotation. That something ends soon is none of them here: Judge is told
// what is soon.
func AgainstSpec(uses []Use, have Material, changes []Change) {
	differs := map[string]string{} // by name
	for _, c := range changes {
		if c.Reason != Expiring {
			differs[c.Name] = c.Detail
		}
	}
	asked := map[string]string{} // by fingerprint
	for name, item := range have {
		for _, u := range Read(Use{}, item.First()) { // not the parents of an authority
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

// Lacking gives an entry with an Error for each of wanted that none of have is: a bundle that lacks an authority.
// It gives none where what is there is not what is wanted at all: each of have says that already.
func Lacking(at Use, have, wanted []Use) []Use {
	var missing []Use
	for _, w := range wanted {
		if w.SHA256 != "" && !slices.ContainsFunc(have, w.same) {
			missing = append(missing, at.unread("lacks %s (serial %s), which the state has there", w.Subject, w.Serial))
		}
	}
	if len(missing) == len(wanted) {
		return nil
	}
	return missing
}

// Level is how urgent something is. Its numbers are the exit codes that Nagios and those after it expect of a check.
type Level int

// The levels. Unknown is for what could not be read.
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

// severity orders levels: what is known to be bad comes before what is not known.
var severity = map[Level]int{OK: 0, Unknown: 1, Warning: 2, Critical: 3}

// Judge sets the level and the days left of each, and gives the worst level. Critical is what ends within crit, has
// ended or has not begun; a warning what ends within warn, is served or lies somewhere in the place of something else, or
// is not what the spec asks for.
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
	ends := !u.NotAfter.IsZero() && u.Place != InCSR // a person's ends, as it was meant to
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

// Sort puts what is urgent first, by the levels that Judge has set and then by the nearest end. What has none, or could not
// be read, comes last of its level. Equals are in the order of hosts, places and locations.
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

// Remarks are what a reader has to know of a use beside its dates, a clause each; none for what is as it should be.
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
