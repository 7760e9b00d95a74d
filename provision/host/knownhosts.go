package host

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: the format has it
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Markers of known_hosts lines, as ssh.ParseKnownHosts returns them.
const (
	markAuthority = "cert-authority"
	markRevoked   = "revoked"
)

// knownLine is one line of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
type knownLine struct {
	file   string
	number int
	marker string // "", markAuthority or markRevoked
	hosts  []string
	key    ssh.PublicKey
}

// place is "file:line".
func (l knownLine) place() string { return fmt.Sprintf("%s:%d", l.file, l.number) }

// knownFile is a known_hosts file. Package knownhosts refuses a file for one malformed line, and
// with it every machine, so lines are read here.
type knownFile struct {
	lines []knownLine
	// named has the places in lines of those that only name hosts, by each of the names; others has
	// the places of all other lines, which may be about any host.
	named  map[string][]int
	others []int
	// malformed lines are ignored, as ssh(1) does: "file:line: why".
	malformed []string
}

// readKnownHosts reads a file. One that does not exist is empty: few people have all of those that
// OpenSSH reads.
func readKnownHosts(file string) (*knownFile, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &knownFile{}, nil
	}
	if err != nil {
		return nil, err
	}
	f, number := &knownFile{}, 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		l, err := parseKnownLine(line)
		if err != nil {
			f.malformed = append(f.malformed, fmt.Sprintf("%s:%d: %v", file, number, err))
			continue
		}
		l.file, l.number = file, number
		f.add(l)
	}
	return f, nil
}

func (f *knownFile) add(l knownLine) {
	at := len(f.lines)
	f.lines = append(f.lines, l)
	unclear := func(h string) bool {
		return strings.HasPrefix(h, "|") || strings.HasPrefix(h, "!") || strings.ContainsAny(h, "*?")
	}
	if l.marker == markRevoked || slices.ContainsFunc(l.hosts, unclear) {
		f.others = append(f.others, at)
		return
	}
	if f.named == nil {
		f.named = map[string][]int{}
	}
	for _, h := range l.hosts {
		f.named[h] = append(f.named[h], at)
	}
}

// candidates are the lines that may be about one of the names, in the order of the file: a file has a
// line for each of a thousand hosts, and each of these is looked up.
func (f *knownFile) candidates(names ...string) []knownLine {
	places := slices.Clone(f.others)
	for _, name := range names {
		places = append(places, f.named[strings.ToLower(name)]...)
	}
	slices.Sort(places)
	var lines []knownLine
	for _, at := range slices.Compact(places) {
		lines = append(lines, f.lines[at])
	}
	return lines
}

func parseKnownLine(line string) (l knownLine, err error) {
	if !strings.ContainsAny(line, " \t") {
		return l, errors.New("it is one word") // ParseKnownHosts skips it
	}
	if l.marker, l.hosts, l.key, _, _, err = ssh.ParseKnownHosts([]byte(line)); err != nil {
		return l, errors.New(strings.TrimPrefix(err.Error(), "ssh: "))
	}
	if l.marker != "" && l.marker != markAuthority && l.marker != markRevoked {
		return l, fmt.Errorf("@%s is no marker", l.marker)
	}
	for i, h := range l.hosts {
		if strings.HasPrefix(h, "|") {
			if _, _, err := hashedHost(h); err != nil {
				return l, err
			}
			continue
		}
		l.hosts[i] = strings.ToLower(h)
		if inner, ok := strings.CutSuffix(l.hosts[i], "]:22"); ok { // as written by some tools
			l.hosts[i] = strings.Replace(inner, "[", "", 1)
		}
	}
	return l, nil
}

// about reports whether a line has a host, whose name is normalized: "host", or "[host]:port" if
// the port is not 22.
func (l knownLine) about(name string) bool {
	found := false
	for _, h := range l.hosts {
		pattern, not := strings.CutPrefix(h, "!")
		switch {
		case strings.HasPrefix(h, "|"):
			salt, hash, err := hashedHost(h)
			mac := hmac.New(sha1.New, salt)
			mac.Write([]byte(name))
			found = found || err == nil && hmac.Equal(mac.Sum(nil), hash)
		case !wildcard(pattern, strings.ToLower(name)):
		case not:
			return false
		default:
			found = true
		}
	}
	return found
}

// hashedHost splits "|1|salt|hash".
func hashedHost(h string) (salt, hash []byte, err error) {
	parts := strings.Split(h, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return nil, nil, errors.New("a hashed host is |1|salt|hash")
	}
	if salt, err = base64.StdEncoding.DecodeString(parts[2]); err == nil {
		hash, err = base64.StdEncoding.DecodeString(parts[3])
	}
	return salt, hash, err
}

// wildcard matches like match_pattern of OpenSSH: "*" is any text, "?" any character. It goes back to
// the last "*" only, which is enough, so that a pattern that a host sends takes no time.
func wildcard(pattern, s string) bool {
	p, n := 0, 0
	star, from := -1, 0
	for n < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[n]):
			p, n = p+1, n+1
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// normalized is an address as known_hosts files name it.
func (c Config) normalized() string {
	if c.HostKeyAlias != "" {
		return c.HostKeyAlias
	}
	return knownhosts.Normalize(c.Address)
}
