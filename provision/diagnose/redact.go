package diagnose

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/secret"
)

// redacted stands for what was removed.
const redacted = "[redacted]"

// patterns find secrets by their form, whoever made them. The first group, if there is one, stays.
var patterns = []*regexp.Regexp{
	// PEM, on lines of its own or with escaped newlines; also one that was cut off.
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`),
	// The same in base64: "-----BEGIN " begins with LS0tLS1CRUdJTi, and a key's name follows.
	regexp.MustCompile(`LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFURSBLRVkt|BFQyBQUklWQVRFIEtFWS|BQUklWQVRFIEtFWS|BPUEVOU1NIIFBSSVZBVEUgS0VZ)[A-Za-z0-9+/=]*`),
	// A JSON web token: {"alg"...
	regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*`),
	// A bootstrap token (k8s.io/cluster-bootstrap/token/api).
	regexp.MustCompile(`\b([a-z0-9]{6}\.)[a-z0-9]{16}\b`),
	// age's keys.
	regexp.MustCompile(`(?i)AGE-SECRET-KEY-[A-Z0-9-]+`),
	regexp.MustCompile(`(?i)(\bauthorization["']?\s*[:=]\s*["']?(?:bearer|basic)\s+)[^\s"',]+`),
	// The user's part of a URL.
	regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s/:@"']*:)[^\s/@"']+(?:@)`),
	// Fields of kubeconfigs, of encryption configurations, and arguments and variables with telling
	// names.
	regexp.MustCompile(`(?i)((?:client-key-data|[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret[-_]?(?:access[-_]?)?key|api[-_]?key|` +
		`access[-_]?token|auth[-_]?token|client[-_]?secret|bearer[-_]?token|credentials?))["']?\s*[:=]\s*["']?)[^\s"',}&]+`),
	regexp.MustCompile(`(?im)^(\s*(?:- )?["']?(?:token|secret)["']?\s*[:=]\s*["']?)[^\s"',{]+`),
	regexp.MustCompile(`(--(?:token|secret|password)[= ])[^\s"']+`),
}

// RedactPatterns removes what has the form of a secret.
func RedactPatterns(text string) string {
	for _, p := range patterns {
		text = p.ReplaceAllString(text, "${1}"+redacted)
	}
	return text
}

// shortest is the length of the shortest known secret that is searched for: shorter ones are words.
const shortest = 8

// Redactor removes known secrets from texts, in raw, base64 and hexadecimal form, and what has the
// form of a secret.
type Redactor struct{ known *strings.Replacer }

// NewRedactor knows some secrets. Those shorter than 8 bytes, and public words, are ignored.
func NewRedactor(secrets []secret.Bytes, public []string) Redactor {
	needles := map[string]bool{}
	for _, s := range secrets {
		for _, part := range partsOf(string(s.Reveal())) {
			if len(part) < shortest || slices.Contains(public, part) {
				continue
			}
			for _, form := range encodings(part) {
				needles[form] = true
			}
		}
	}
	// The longest first: one may contain another.
	sorted := slices.SortedFunc(maps.Keys(needles), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	pairs := make([]string, 0, 2*len(sorted))
	for _, n := range sorted {
		pairs = append(pairs, n, redacted)
	}
	return Redactor{strings.NewReplacer(pairs...)}
}

// partsOf returns a secret, without the space around it, and its long lines: in JSON and logs a text
// has other line ends.
func partsOf(text string) []string {
	trimmed := strings.TrimSpace(text)
	parts := []string{text, trimmed}
	for line := range strings.Lines(trimmed) {
		if line = strings.TrimSpace(line); len(line) >= 2*shortest && !strings.HasPrefix(line, "-----") {
			parts = append(parts, line)
		}
	}
	return parts
}

// encodings returns a text and its forms in base64 and hexadecimal. Padding and the last characters
// before it are left out: what follows in a longer text changes them.
func encodings(text string) []string {
	std := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "=")
	url := strings.TrimRight(base64.URLEncoding.EncodeToString([]byte(text)), "=")
	low := hex.EncodeToString([]byte(text))
	all := []string{text, std, url, low, strings.ToUpper(low)}
	// As a part of something longer that was encoded as a whole, at any of three offsets.
	for skip := range 3 {
		if cut := len(text) - (skip+len(text))%3; cut >= 12 {
			inner := base64.StdEncoding.EncodeToString(append(make([]byte, skip), text[:cut]...))
			all = append(all, inner[4:])
		}
	}
	return all
}

// Redact removes secrets from a text.
func (r Redactor) Redact(text string) string {
	if r.known != nil {
		text = r.known.Replace(text)
	}
	return RedactPatterns(text)
}
