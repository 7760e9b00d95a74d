package host

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// verifier decides whether the host is the one that was meant.
type verifier struct {
	// algorithms are those of the keys that are expected; empty for any secure one.
	algorithms []string
	callback   ssh.HostKeyCallback
	want       []string
	// source of want: "pinned", the lines of known_hosts files, or these files if none has the host.
	source string
	// remedy removes the lines of want.
	remedy string
	// ignored are malformed lines of the known_hosts files.
	ignored []string
}

func newVerifier(c Config) (*verifier, error) {
	if len(c.HostKeys) > 0 {
		return pinned(c)
	}
	if len(c.KnownHosts) == 0 && c.TrustOnFirstUse == nil {
		return nil, fmt.Errorf("%s: no way to verify the host at %s: neither host keys nor a known_hosts file are given", c.Name, c.Address)
	}
	return known(c)
}

func pinned(c Config) (*verifier, error) {
	v := &verifier{source: SourcePinned}
	if c.Trusted {
		v.source = SourceTrusted
	}
	var keys []ssh.PublicKey
	for i, line := range c.HostKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("%s: host key %d: %w", c.Name, i+1, err)
		}
		keys = append(keys, key)
	}
	v.expect(keys)
	v.callback = func(_ string, _ net.Addr, got ssh.PublicKey) error {
		if slices.ContainsFunc(keys, func(key ssh.PublicKey) bool { return same(key, got) }) {
			return nil
		}
		return v.mismatch(c, fingerprint(got))
	}
	return v, nil
}

func same(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

// hostLines are the lines of known_hosts files that are about one host.
type hostLines struct{ keys, authorities, revoked []knownLine }

// linesAbout finds them. If none has the host with its port, the certificate authorities of the
// host without it count, as with ssh(1).
func linesAbout(files []*knownFile, name string) (about hostLines) {
	bare := name
	if host, _, err := net.SplitHostPort(name); err == nil {
		bare = host
	}
	var general []knownLine
	for _, f := range files {
		for _, l := range f.candidates(name, bare) {
			if l.marker == markRevoked {
				about.revoked = append(about.revoked, l) // whatever the host: the key is not to be trusted
				continue
			}
			switch found := l.about(name); {
			case found && l.marker == markAuthority:
				about.authorities = append(about.authorities, l)
			case found:
				about.keys = append(about.keys, l)
			case l.marker == markAuthority && l.about(bare):
				general = append(general, l)
			}
		}
	}
	if len(about.keys)+len(about.authorities) == 0 {
		about.authorities = general
	}
	return about
}

// find returns the line with a key.
func find(lines []knownLine, key ssh.PublicKey) (knownLine, bool) {
	i := slices.IndexFunc(lines, func(l knownLine) bool { return same(l.key, key) })
	if i < 0 {
		return knownLine{}, false
	}
	return lines[i], true
}

func known(c Config) (*verifier, error) {
	v := &verifier{source: cmp.Or(strings.Join(c.KnownHosts, " and "), "known_hosts")}
	var files []*knownFile
	for _, name := range c.KnownHosts {
		f, err := c.Shared.knownHosts(name, c.Report)
		if err != nil {
			return nil, fmt.Errorf("%s: read the known hosts: %w", c.Name, err)
		}
		files, v.ignored = append(files, f), append(v.ignored, f.malformed...)
	}
	name := c.normalized()
	about := linesAbout(files, name)
	var keys []ssh.PublicKey
	var places []string
	for _, l := range about.keys {
		keys, places = append(keys, l.key), append(places, l.place())
	}
	v.expect(keys)
	if len(about.authorities) > 0 {
		v.expectCertificates(len(keys) == 0)
	}
	if len(places) > 0 {
		v.source, v.remedy = strings.Join(places, ", "), removal(name, about.keys)
	}
	v.callback = func(_ string, _ net.Addr, got ssh.PublicKey) error { return v.check(c, about, got) }
	return v, nil
}

// check decides about the key or certificate that a host shows.
func (v *verifier) check(c Config, about hostLines, got ssh.PublicKey) error {
	cert, certified := got.(*ssh.Certificate)
	plain := got
	if certified {
		plain = cert.Key
		if line, ok := find(about.revoked, cert.SignatureKey); ok {
			return &HostKeyError{Host: c.Name, Address: c.Address, Got: fingerprint(cert.SignatureKey), Source: line.place(), Revoked: true}
		}
	}
	if line, ok := find(about.revoked, plain); ok {
		return &HostKeyError{Host: c.Name, Address: c.Address, Got: fingerprint(plain), Source: line.place(), Revoked: true}
	}
	if certified {
		if line, ok := find(about.authorities, cert.SignatureKey); ok {
			if err := checkCertificate(c, cert); err != nil {
				return &HostKeyError{Host: c.Name, Address: c.Address, Got: fingerprint(plain), Source: line.place(), Certificate: err}
			}
			return nil
		}
	}
	if _, ok := find(about.keys, plain); ok {
		return nil
	}
	if len(about.keys) == 0 && c.TrustOnFirstUse != nil {
		return c.TrustOnFirstUse(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(plain))))
	}
	return v.mismatch(c, fingerprint(plain))
}

// checkCertificate checks the certificate of a host by a trusted authority: its type, principals,
// validity and signature. Like OpenSSH, a principal may be a pattern ("*.example.com").
func checkCertificate(c Config, cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("it is no certificate of a host")
	}
	name := c.HostKeyAlias
	if name == "" {
		name, _, _ = net.SplitHostPort(c.Address)
	}
	principal := name
	for _, p := range cert.ValidPrincipals {
		if wildcard(strings.ToLower(p), strings.ToLower(name)) {
			principal = p
		}
	}
	if err := new(ssh.CertChecker).CheckCert(principal, cert); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "ssh: "))
	}
	return nil
}

// removal is the command that removes the lines about a host.
func removal(name string, lines []knownLine) string {
	var files, commands []string
	for _, l := range lines {
		if !slices.Contains(files, l.file) {
			files = append(files, l.file)
			commands = append(commands, fmt.Sprintf("ssh-keygen -R %s -f %s", word(name), word(l.file)))
		}
	}
	return strings.Join(commands, " && ")
}

// word quotes s for a shell if it needs that.
func word(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@%+,") == "" {
		return s
	}
	return Quote(s)
}

// hostAlgorithms are the types of keys, with the algorithms that prove them, cheapest to verify first.
var hostAlgorithms = []struct{ keyType, algorithm, certificate string }{
	{ssh.KeyAlgoED25519, ssh.KeyAlgoED25519, ssh.CertAlgoED25519v01},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256, ssh.CertAlgoECDSA256v01},
	{ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384, ssh.CertAlgoECDSA384v01},
	{ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521, ssh.CertAlgoECDSA521v01},
	{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512, ssh.CertAlgoRSASHA512v01},
	{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256, ssh.CertAlgoRSASHA256v01},
}

// expect restricts the algorithms to those of keys.
func (v *verifier) expect(keys []ssh.PublicKey) {
	for _, key := range keys {
		v.want = append(v.want, fingerprint(key))
	}
	for _, a := range hostAlgorithms {
		if slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return k.Type() == a.keyType }) {
			v.algorithms = append(v.algorithms, a.algorithm)
		}
	}
}

// expectCertificates prefers certificates to keys; all means that keys of any type may follow.
func (v *verifier) expectCertificates(all bool) {
	var certificates []string
	for _, a := range hostAlgorithms {
		certificates = append(certificates, a.certificate)
		if all {
			v.algorithms = append(v.algorithms, a.algorithm)
		}
	}
	v.algorithms = append(certificates, v.algorithms...)
}

func (v *verifier) mismatch(c Config, got string) *HostKeyError {
	return &HostKeyError{Host: c.Name, Address: c.Address, Want: v.want, Got: got, Source: v.source, Remedy: v.remedy, Ignored: v.ignored}
}

func fingerprint(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }
