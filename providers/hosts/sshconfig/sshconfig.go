// Package sshconfig reads what ssh_config(5) says of a host.
//
// It evaluates Host, Match (all criteria but exec and what depends on this computer's network) and
// Include as ssh(1) does: the first value that is obtained wins. It knows no defaults and reads no
// keys. It never runs a command: a block with Match exec is left out, and noted.
package sshconfig

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Files are the paths of the configuration files that ssh(1) reads, in that order.
type Files struct {
	// User is ~/.ssh/config, System is /etc/ssh/ssh_config; empty reads none. A file that does not
	// exist is empty.
	User, System string
	// Home is the user's home directory, and LocalUser the user's name on this computer.
	Home, LocalUser string
}

// Options is what the files say of a host, with tokens expanded. Empty fields were not set.
type Options struct {
	HostName, User, Port, HostKeyAlias      string
	IdentityAgent, ProxyJump                string
	IdentitiesOnly                          string // "yes" or "no"
	IdentityFiles, UserKnownHostsFiles      []string
	GlobalKnownHostsFiles, CertificateFiles []string
	// ProxyCommand is a command that makes the connection; only one of it and ProxyJump is set.
	ProxyCommand string
	// Notes name blocks that were left out, with file and line.
	Notes []string
}

// maxDepth is how deep Include may nest, as in OpenSSH (readconf.c, READCONF_MAX_DEPTH).
const maxDepth = 16

// Lookup evaluates the files for a host, as it was named, and the user if it is already known; like
// options of ssh's command line, that user has precedence.
func (f Files) Lookup(host, user string) (Options, error) {
	e := evaluation{files: f, host: host, user: user, values: map[string][]string{}}
	for {
		for _, file := range []struct{ path, base string }{{f.User, filepath.Join(f.Home, ".ssh")}, {f.System, "/etc/ssh"}} {
			if file.path == "" {
				continue
			}
			if err := e.read(file.path, file.base, true, 0); err != nil && !os.IsNotExist(err) {
				return Options{}, err
			}
		}
		if e.final || !e.wantsFinal {
			return e.options(), nil
		}
		e.final = true // once more, as ssh does for Match final and canonical
	}
}

// evaluation is one lookup. The first value of each keyword stays.
type evaluation struct {
	files             Files
	host, user        string
	values            map[string][]string
	notes             []string
	wantsFinal, final bool
}

// keywords are those that slipway uses. A list keeps the words of all lines or of one line.
var keywords = map[string]struct{ all, words bool }{
	"hostname": {}, "user": {}, "port": {}, "hostkeyalias": {}, "identityagent": {}, "proxyjump": {}, "identitiesonly": {},
	"identityfile": {all: true}, "certificatefile": {all: true},
	"userknownhostsfile": {words: true}, "globalknownhostsfile": {words: true}, "proxycommand": {}, "tag": {},
}

// read evaluates a file. active means that its lines apply until a Host or Match line.
func (e *evaluation) read(path, base string, active bool, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: Include is nested more than %d files deep", path, maxDepth)
	}
	text, err := os.ReadFile(path) //nolint:gosec // a file that the user or ssh_config names
	if err != nil {
		return err
	}
	block := block{base: base, outer: active, active: active, depth: depth}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		keyword, args, err := split(line)
		if err == nil {
			block.at = fmt.Sprintf("%s:%d", path, number)
			err = e.line(keyword, args, &block)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return nil
}

// block is where a file is being read: at has file and line.
type block struct {
	base, at string
	// outer means that the file applies; an Include in a block that does not never does. active
	// means that the current block applies.
	outer, active bool
	depth         int
}

func (e *evaluation) line(keyword string, args []string, b *block) (err error) {
	switch keyword {
	case "":
	case "host":
		b.active = b.outer && matchList(args, e.host)
	case "match":
		b.active, err = e.match(args, b.at)
		b.active = b.active && b.outer
	case "include":
		return e.include(args, b.base, b.active, b.depth)
	default:
		if b.active && len(args) > 0 {
			e.set(keyword, args)
		}
	}
	return err
}

// include reads the files of an Include line. Relative paths are below base.
func (e *evaluation) include(patterns []string, base string, active bool, depth int) error {
	for _, pattern := range patterns {
		pattern = e.home(pattern)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(base, pattern)
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("include %s: %w", pattern, err)
		}
		for _, file := range files {
			if err := e.read(file, base, active, depth+1); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	return nil
}

func (e *evaluation) set(keyword string, args []string) {
	kind, used := keywords[keyword]
	have, isSet := e.values[keyword]
	switch {
	case !used || isSet && !kind.all:
	case keyword == "proxycommand":
		if e.values["proxyjump"] == nil { // whichever comes first
			e.values[keyword] = []string{strings.Join(args, " ")}
		}
	case keyword == "proxyjump" && e.values["proxycommand"] != nil:
	case kind.all:
		if !slices.Contains(have, args[0]) {
			e.values[keyword] = append(have, args[0])
		}
	case kind.words:
		e.values[keyword] = args
	default:
		e.values[keyword] = args[:1]
	}
}

// match evaluates the criteria of a Match line; all have to hold.
func (e *evaluation) match(args []string, at string) (bool, error) {
	holds := true
	for len(args) > 0 {
		criterion, negated := strings.CutPrefix(args[0], "!")
		criterion, argument, given := strings.Cut(criterion, "=") // Match host=a
		criterion, args = strings.ToLower(criterion), args[1:]
		if !given && !slices.Contains([]string{"all", "canonical", "final"}, criterion) {
			if len(args) == 0 {
				return false, fmt.Errorf("no pattern follows Match %s", criterion)
			}
			argument, args = args[0], args[1:]
		}
		ok, err := e.criterion(criterion, argument, at)
		if err != nil {
			return false, err
		}
		holds = holds && ok != negated
	}
	return holds, nil
}

func (e *evaluation) criterion(name, argument, at string) (bool, error) {
	patterns := strings.Split(argument, ",")
	switch name {
	case "all":
		return true, nil
	case "final", "canonical":
		e.wantsFinal = e.wantsFinal || name == "final"
		return e.final, nil
	case "host":
		return matchList(patterns, e.hostName()), nil
	case "originalhost":
		return matchList(patterns, e.host), nil
	case "user":
		return matchList(patterns, cmp.Or(e.user, e.first("user"), e.files.LocalUser)), nil
	case "localuser":
		return matchList(patterns, e.files.LocalUser), nil
	case "tagged":
		return matchList(patterns, e.first("tag")), nil
	case "exec", "localnetwork", "command", "version", "sessiontype":
		if note := at + ": the block of Match " + name + " is left out"; !slices.Contains(e.notes, note) {
			e.notes = append(e.notes, note)
		}
		return false, nil
	}
	return false, fmt.Errorf("criterion %q of Match is unknown", name)
}

func (e *evaluation) first(keyword string) string {
	if values := e.values[keyword]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func (e *evaluation) hostName() string {
	name := cmp.Or(e.first("hostname"), e.host)
	return strings.NewReplacer("%%", "%", "%h", e.host, "%n", e.host).Replace(name)
}

// options expands tokens (ssh_config(5), TOKENS).
func (e *evaluation) options() Options {
	o := Options{
		HostName: e.hostName(), User: e.first("user"), Port: e.first("port"), HostKeyAlias: e.first("hostkeyalias"),
		IdentityAgent: e.first("identityagent"), ProxyJump: e.first("proxyjump"), ProxyCommand: e.first("proxycommand"),
		IdentitiesOnly: strings.ToLower(e.first("identitiesonly")), Notes: e.notes,
	}
	local, _ := os.Hostname()
	short, _, _ := strings.Cut(local, ".")
	tokens := strings.NewReplacer("%%", "%", "%h", o.HostName, "%n", e.host, "%p", cmp.Or(o.Port, "22"), "%r", cmp.Or(e.user, o.User, e.files.LocalUser),
		"%u", e.files.LocalUser, "%d", e.files.Home, "%l", local, "%L", short, "%k", cmp.Or(o.HostKeyAlias, e.host), "%j", o.ProxyJump)
	expand := func(text string) string { return e.home(expandEnvironment(tokens.Replace(text))) }
	all := func(keyword string) (list []string) {
		for _, text := range e.values[keyword] {
			list = append(list, expand(text))
		}
		return list
	}
	o.IdentityAgent = expand(o.IdentityAgent)
	o.ProxyJump = tokens.Replace(o.ProxyJump)
	o.IdentityFiles, o.CertificateFiles = all("identityfile"), all("certificatefile")
	o.UserKnownHostsFiles, o.GlobalKnownHostsFiles = all("userknownhostsfile"), all("globalknownhostsfile")
	if strings.EqualFold(o.ProxyJump, "none") {
		o.ProxyJump = ""
	}
	if strings.EqualFold(o.ProxyCommand, "none") {
		o.ProxyCommand = ""
	}
	return o
}

// variable is ${NAME}; $NAME stays as it is, as in ssh.
var variable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

func expandEnvironment(text string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string { return os.Getenv(v[2 : len(v)-1]) })
}

func (e *evaluation) home(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(e.files.Home, rest)
	}
	return path
}
