package spec

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

func validateState(d *document, s State) {
	const at = "spec.state"
	if d.present(at+".directory") && d.present(at+".s3") {
		second := at + ".s3"
		if d.at(at + ".directory").after(d.at(second)) {
			second = at + ".directory"
		}
		d.judge(second, "keep one of directory, s3", "the state can only be in one place")
	}
	if strings.HasPrefix(s.Directory, "~") && !strings.HasPrefix(s.Directory, "~/") {
		d.judge(at+".directory", "write the path of a directory, such as ~/slipway", "%q is not a directory: ~ is only supported as ~/, your own home", s.Directory)
	}
	if s.S3 != nil {
		validateS3(d, *s.S3)
		if s.Encryption == nil && !d.isBad(at+".encryption") {
			d.judge(at+".encryption",
				"list recipients in `encryption`, or write `encryption: {passphrase: true}`; to leave it unencrypted, write `encryption: {none: true}`",
				"a state in a bucket contains the keys of the cluster's CAs, so its encryption must be set")
		}
	}
	if s.Encryption != nil {
		validateEncryption(d, *s.Encryption)
	}
}

var (
	bucketName = regexp.MustCompile(constraints["S3State.bucket"].pattern)
	// The characters that are safe in keys according to the S3 user guide, without those with a
	// meaning in shells and URLs.
	keyPrefix = regexp.MustCompile(`^[A-Za-z0-9._=@/-]+$`)
)

func validateS3(d *document, s S3State) {
	const at = "spec.state.s3"
	if s.Bucket != "" && !isBucket(s.Bucket) {
		d.judge(at+".bucket", "use 3 to 63 lower-case letters, digits, dots and dashes, without s3://", "%q is not a bucket name", s.Bucket)
	}
	if d.present(at+".prefix") && !isPrefix(s.Prefix) {
		d.judge(at+".prefix", "write names of letters, digits and ._=@- with slashes between them, such as clusters/demo", "%q is not a prefix", s.Prefix)
	}
	if s.Endpoint != "" {
		validateS3Endpoint(d, s)
	}
}

func isBucket(s string) bool { return bucketName.MatchString(s) && !strings.Contains(s, "..") }

func isPrefix(s string) bool {
	return keyPrefix.MatchString(s) && path.Clean("/"+s) == "/"+s && len(s) <= 500
}

func validateS3Endpoint(d *document, s S3State) {
	const at = "spec.state.s3.endpoint"
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || !isServer(u):
		d.judge(at, "write a URL such as https://s3.example.com", "%q is not the URL of a server", s.Endpoint)
	case u.User != nil:
		d.judge(at, "remove them from the URL: the AWS SDK finds credentials", "contains credentials")
	case u.Scheme == "http" && !loopback(u.Hostname()) && !s.InsecureHTTP:
		d.judge(at, "write https://, or, if the network is private, add `insecureHTTP: true`", "is not encrypted in transit (http://)")
	}
}

// isServer reports whether a URL is that of a server, with nothing behind its path.
func isServer(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == ""
}

// loopback reports whether the host of a URL is this computer.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func validateEncryption(d *document, e Encryption) {
	const at = "spec.state.encryption"
	switch {
	case d.isBad(at):
	case e.None && (e.Passphrase || len(e.Recipients) > 0):
		d.judge(at+".none", "keep one of recipients, passphrase, none", "none excludes recipients and a passphrase")
	case e.None:
	case e.Passphrase && len(e.Recipients) > 0:
		d.judge(at+".passphrase", "keep one of recipients, passphrase", "a state is encrypted either to recipients or with a passphrase")
	case !e.Passphrase && len(e.Recipients) == 0:
		d.judge(at, "list recipients, or write `passphrase: true`; or `none: true` for no encryption", "has neither recipients nor a passphrase")
	}
	validateRecipients(d, at+".recipients", e.Recipients)
}

func validateRecipients(d *document, at string, lines []string) {
	seen := map[string]int{}
	var valid []age.Recipient
	for i, line := range lines {
		item := fmt.Sprintf("%s[%d]", at, i)
		if line == "" { // judged already
			continue
		}
		// Never print the key: it may be a private key that was pasted by mistake.
		r, err := parseRecipient(line)
		switch first, ok := seen[publicKey(line)]; {
		case strings.HasPrefix(strings.ToUpper(line), "AGE-SECRET-KEY-") || strings.Contains(line, "PRIVATE KEY"):
			before := len(d.errs)
			d.judge(item, "write the public key, which begins with age1 or ssh-, and generate a new pair, because others may have read this file",
				"this is a private key")
			for i := range d.errs[before:] {
				d.errs[before+i].Source = "" // keep it out of logs
			}
		case err != nil:
			d.judge(item, "write a public key as age-keygen or ssh-keygen print it: age1..., ssh-ed25519 ... or ssh-rsa ...", "is not a public key: %v", err)
		case ok:
			d.judge(item, "remove it", "is already recipients[%d]", first)
		default:
			seen[publicKey(line)] = i
			valid = append(valid, r)
		}
	}
	if len(valid) == len(lines) && len(valid) > 0 {
		if _, err := age.Encrypt(io.Discard, valid...); err != nil {
			d.judge(at, "use either only age1pq... keys, or none of them", "these keys cannot be used together: %v", err)
		}
	}
}

// publicKey returns the line without the comment of an SSH key.
func publicKey(line string) string {
	fields := strings.Fields(line)
	return strings.Join(fields[:min(2, len(fields))], " ")
}

// parseRecipient parses one public key on one line. Its errors do not contain the key.
func parseRecipient(line string) (age.Recipient, error) {
	if strings.ContainsAny(line, "\n\r") {
		return nil, errors.New("it has more than one line")
	}
	switch {
	case strings.HasPrefix(line, "ssh-"):
		r, err := agessh.ParseRecipient(line)
		if err != nil {
			return nil, errors.New("it is not an ssh-ed25519 or ssh-rsa key, or it is damaged")
		}
		return r, nil
	case strings.HasPrefix(line, "age1"):
		all, err := age.ParseRecipients(strings.NewReader(line))
		if err != nil || len(all) != 1 {
			return nil, errors.New("it is mistyped or incomplete")
		}
		return all[0], nil
	}
	return nil, errors.New("it does not start with age1 or ssh-")
}
