package host

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// verifier decides whether the host is the one that was meant.
type verifier struct {
	// algorithms are those of the keys that are expected; empty for any secure one.
	algorithms []string
	callback   ssh.HostKeyCallback
	want       []string
	// source of want: "pinned", the lines of known_hosts files, or these files if none has the host.
	source string
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
		for _, key := range keys {
			if string(key.Marshal()) == string(got.Marshal()) {
				return nil
			}
		}
		return v.mismatch(c, fingerprint(got))
	}
	return v, nil
}

func known(c Config) (*verifier, error) {
	files := existing(c.KnownHosts)
	v := &verifier{source: cmp.Or(strings.Join(c.KnownHosts, " and "), "known_hosts")}
	check, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("%s: read the known hosts: %w", c.Name, err)
	}
	lines, err := knownKeys(check, c.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: look %s up in %s: %w", c.Name, c.Address, v.source, err)
	}
	var keys []ssh.PublicKey
	var places []string
	for _, k := range lines {
		switch authority, err := isAuthority(k); {
		case err != nil:
			return nil, fmt.Errorf("%s: look %s up in %s: %w", c.Name, c.Address, v.source, err)
		case !authority:
			keys, places = append(keys, k.Key), append(places, place(k))
		}
	}
	v.expect(keys)
	if len(places) > 0 {
		v.source = strings.Join(places, ", ")
	}
	v.callback = func(address string, remote net.Addr, got ssh.PublicKey) error {
		err := check(address, remote, got)
		var unknown *knownhosts.KeyError
		var revoked *knownhosts.RevokedError
		switch {
		case errors.As(err, &revoked):
			return &HostKeyError{Host: c.Name, Address: c.Address, Got: fingerprint(got), Source: place(revoked.Revoked), Revoked: true}
		case err != nil && !errors.As(err, &unknown):
			return err
		case slices.ContainsFunc(keys, func(key ssh.PublicKey) bool { return string(key.Marshal()) == string(got.Marshal()) }):
			return nil
		case len(keys) == 0 && c.TrustOnFirstUse != nil:
			return c.TrustOnFirstUse(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(got))))
		}
		return v.mismatch(c, fingerprint(got))
	}
	return v, nil
}

// existing leaves out files that do not exist: few people have all of those that OpenSSH reads.
func existing(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(file string) bool {
		_, err := os.Stat(file)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// isAuthority reports whether a known_hosts file has a key as that of a CA. Package knownhosts takes
// it for the host's own key, too.
func isAuthority(k knownhosts.KnownKey) (bool, error) {
	text, err := os.ReadFile(k.Filename)
	if err != nil {
		return false, err
	}
	lines := strings.Split(string(text), "\n")
	return k.Line > len(lines) || strings.HasPrefix(strings.TrimSpace(lines[k.Line-1]), "@"), nil
}

// place is where a known_hosts file has a key.
func place(k knownhosts.KnownKey) string { return fmt.Sprintf("%s:%d", k.Filename, k.Line) }

// knownKeys returns the lines about an address, by showing a key that cannot be there. Without them
// the host might show a key of a type that no line has, and look like another host.
func knownKeys(check ssh.HostKeyCallback, address string) ([]knownhosts.KnownKey, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	probe, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	var unknown *knownhosts.KeyError
	if err := check(address, &net.TCPAddr{}, probe); !errors.As(err, &unknown) {
		return nil, err
	}
	return unknown.Want, nil
}

// expect restricts the algorithms to those of keys, cheapest to verify first.
func (v *verifier) expect(keys []ssh.PublicKey) {
	for _, key := range keys {
		v.want = append(v.want, fingerprint(key))
	}
	if len(keys) == 0 {
		return
	}
	for _, a := range []struct{ keyType, algorithm string }{
		{ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
		{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256},
		{ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384},
		{ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
	} {
		if slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return k.Type() == a.keyType }) {
			v.algorithms = append(v.algorithms, a.algorithm)
		}
	}
}

func (v *verifier) mismatch(c Config, got string) *HostKeyError {
	return &HostKeyError{Host: c.Name, Address: c.Address, Want: v.want, Got: got, Source: v.source}
}

func fingerprint(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }
