package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// SudoQuestion is the prefix of the question for a password (Config.Secret); the user's name follows.
const SudoQuestion = "Password for sudo of user "

// SudoReason is why a user does not become root.
type SudoReason string

// The reasons of a SudoError.
const (
	SudoMissing   SudoReason = "sudo is not installed"
	SudoForbidden SudoReason = "the user may not run everything as root (sudoers)"
	SudoTerminal  SudoReason = "sudo wants a terminal (requiretty in sudoers)"
	SudoNoAnswer  SudoReason = "sudo wants a password, and there is nobody to ask for it"
	SudoWrong     SudoReason = "sudo refuses the password"
	// SudoUntried is a password that is not sent to a host, because another has refused it: a second
	// wrong one may lock the account.
	SudoUntried SudoReason = "sudo wants a password, and another machine refuses it"
	SudoFailed  SudoReason = "sudo fails"
)

// SudoError is a user who does not become root on a host.
type SudoError struct {
	Host, User string
	Reason     SudoReason
	// Refused is the host that has refused the password, if Reason is SudoUntried.
	Refused string
	// Said is what sudo printed.
	Said string
	// Err is why nobody answered, if Reason is SudoNoAnswer.
	Err error
}

func (e *SudoError) Error() string {
	text := fmt.Sprintf("%s: user %q does not become root: %s", e.Host, e.User, e.Reason)
	switch {
	case e.Refused != "":
		text += ": " + e.Refused
	case e.Err != nil:
		text += ": " + e.Err.Error()
	case e.Said != "":
		text += ": " + e.Said
	}
	return text
}

func (e *SudoError) Unwrap() error { return e.Err }

// elevation is how scripts run as root. The zero value is for who is root already.
type elevation struct {
	sudo bool
	// password for sudo; nil if it wants none.
	password secret.Bytes
}

// talkLimit bounds what is kept of sudo's messages.
const talkLimit = 16 << 10

// become is the part of a command line before "env".
func (e elevation) become() string {
	switch {
	case !e.sudo:
		return "exec "
	case e.password == nil:
		return "exec sudo -n "
	}
	return "exec env LC_ALL=C sudo -S "
}

// A password goes to sudo's stdin, as a line before everything else. sudo reads it byte by byte, so
// that what follows is the script's; it does not read it at all if it wants no password any more.
// The shell that it starts therefore prints a word to stderr, and drops lines from stdin until that
// word comes back. Nothing but the password is sent before sudo has let the shell run: sudo would
// take it for a second password. Before the word, stderr has sudo's prompt and messages, which are
// no part of the script's.
//
// greet is the beginning of a script that does so. Without input, stdin ends after the password.
func greet(word string, input bool) string {
	if !input {
		return "echo " + word + " >&2; while IFS= read -r l; do :; done; unset l; "
	}
	return "echo " + word + " >&2; l=; until [ \"$l\" = " + word + " ]; do IFS= read -r l || exit 74; done; unset l; "
}

// greeting is the conversation with sudo from here.
type greeting struct {
	word  string
	heard chan struct{} // closed when the word has come
	over  chan struct{} // closed when the job has ended
	to    io.Writer     // the script's stderr

	again chan struct{} // closed when sudo asks again

	mu    sync.Mutex
	talk  []byte // what sudo said; nil after the word
	spoke bool
	asked bool // again is closed
}

func newGreeting(word string, to io.Writer) *greeting {
	return &greeting{word: word, heard: make(chan struct{}), over: make(chan struct{}), again: make(chan struct{}), to: to}
}

// stdin is the password, and in, once the word has been heard; in may be nil.
func (g *greeting) stdin(password secret.Bytes, in io.Reader) io.Reader {
	line := bytes.NewReader(append(bytes.Clone(password.Reveal()), '\n'))
	if in == nil {
		return line
	}
	return io.MultiReader(line, waitFor{g}, strings.NewReader(g.word+"\n"), in)
}

// waitFor is an empty input that ends when the word has been heard.
type waitFor struct{ *greeting }

func (w waitFor) Read([]byte) (int, error) {
	select {
	case <-w.heard:
		return 0, io.EOF
	case <-w.again:
	case <-w.over:
	case <-time.After(sudoPatience):
	}
	return 0, errNoShell
}

// sudoPatience is how long sudo may take to check a password: it may ask a server.
const sudoPatience = time.Minute

// errNoShell ends the input of a job whose sudo does not start a shell: whatever came now would be
// another wrong password.
var errNoShell = errors.New("sudo did not start a shell")

// Write takes stderr.
func (g *greeting) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.spoke {
		return g.to.Write(p)
	}
	g.talk = append(g.talk, p...)
	i := bytes.Index(g.talk, []byte(g.word+"\n"))
	if i < 0 {
		if !g.asked && bytes.Contains(g.talk, []byte("try again")) {
			g.asked = true
			close(g.again)
		}
		if over := len(g.talk) - talkLimit; over > 0 {
			g.talk = g.talk[over:]
		}
		return len(p), nil
	}
	rest := g.talk[i+len(g.word)+1:]
	g.spoke, g.talk = true, nil
	close(g.heard)
	if len(rest) > 0 {
		_, _ = g.to.Write(rest)
	}
	return len(p), nil
}

// end returns what sudo said, and whether it started a shell.
func (g *greeting) end() (said string, started bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.over)
	return string(g.talk), g.spoke
}

// sudoMessages are what sudo and sudo-rs print in the C locale, in lower case, and what that means.
var sudoMessages = []struct {
	text   string
	reason SudoReason
}{
	{"must have a tty", SudoTerminal},
	{"terminal is required to read the password", SudoTerminal},
	{"not in the sudoers file", SudoForbidden},
	{"is not allowed to", SudoForbidden},
	{"may not run sudo", SudoForbidden},
	{"i'm afraid i can't do that", SudoForbidden}, // sudo-rs
	{"incorrect password attempt", SudoWrong},
	{"incorrect authentication attempt", SudoWrong}, // sudo-rs
	{"authentication failed, try again", SudoWrong}, // sudo-rs
	{"sorry, try again", SudoWrong},
	{"sudo: not found", SudoMissing},
	{"sudo: command not found", SudoMissing},
	{"sudo: no such file", SudoMissing},
	{"'sudo': no such file", SudoMissing},
	{"sudo’: no such file", SudoMissing},
}

// sudoRefusal is the error of a sudo that started nothing. What it said never has a password, but is
// searched for one all the same.
func (s *SSH) sudoRefusal(said string, password secret.Bytes) *SudoError {
	if len(password) > 0 {
		said = strings.ReplaceAll(said, string(password.Reveal()), "***")
	}
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	e := &SudoError{Host: s.config.Name, User: s.config.User, Reason: SudoFailed, Said: strings.Join(lines, "; ")}
	for _, m := range sudoMessages {
		if strings.Contains(strings.ToLower(said), m.text) {
			e.Reason = m.reason
			break
		}
	}
	return e
}

// refusal remembers a password that is wrong by now: every further attempt could lock the account.
func (s *SSH) refusal(said string, how elevation) error {
	e := s.sudoRefusal(said, how.password)
	if e.Reason == SudoWrong {
		s.rising <- struct{}{} // free, or soon: sudo answers within its time
		s.refused = e
		<-s.rising
	}
	return e
}

// Become finds out how to become root, once, and asks for a password if sudo wants one. Otherwise
// the first operation does that. An error that is a *SudoError is final: a password is not tried
// twice.
func (s *SSH) Become(ctx context.Context) error {
	_, err := s.elevation(ctx)
	return err
}

func (s *SSH) elevation(ctx context.Context) (elevation, error) {
	if s.config.User == "root" {
		return elevation{}, nil
	}
	select {
	case s.rising <- struct{}{}:
		defer func() { <-s.rising }()
	case <-ctx.Done():
		return elevation{}, context.Cause(ctx)
	}
	if !s.risen && s.refused == nil {
		how, err := s.rise(ctx)
		var refused *SudoError
		switch {
		case errors.As(err, &refused):
			s.refused = refused
		case err != nil:
			return elevation{}, err
		default:
			s.risen, s.how = true, how
		}
	}
	if s.refused != nil {
		return elevation{}, s.refused
	}
	return s.how, nil
}

func (s *SSH) rise(ctx context.Context) (elevation, error) {
	// The same program as later: sudoers may allow some only. -k: what sudo remembers is forgotten
	// later.
	said, ok, err := s.trySudo(ctx, "exec env LC_ALL=C sudo -k -n env sh -c :", nil)
	if err != nil {
		return elevation{}, err
	}
	if ok {
		return elevation{sudo: true}, nil
	}
	if e := s.sudoRefusal(said, nil); e.Reason != SudoFailed && e.Reason != SudoWrong {
		return elevation{}, e
	}
	password, err := s.config.Shared.sudoPassword(ctx, s.config, func(password secret.Bytes) error {
		said, ok, err := s.trySudo(ctx, "exec env LC_ALL=C sudo -k -S env sh -c :", password)
		if err != nil || ok {
			return err
		}
		return s.sudoRefusal(said, password)
	})
	return elevation{sudo: true, password: password}, err
}

// trySudo runs a line that does nothing, with a password and the end of the input: sudo asks again
// after a wrong one, and gets none.
func (s *SSH) trySudo(ctx context.Context, line string, password secret.Bytes) (said string, ok bool, err error) {
	patience := s.config.ConnectTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("sudo has not answered within %s: it may wait for a server that it asks "+
		"about users (LDAP, DNS) and that does not answer", patience))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var in io.Reader
	if password != nil {
		in = bytes.NewReader(append(bytes.Clone(password.Reveal()), '\n'))
	}
	stdout, stderr := &sink{keep: true, fail: fail}, &sink{keep: true, fail: fail}
	ended, err := s.do(ctx, job{line: line, stdin: &source{from: in, fail: fail}, stdout: stdout, stderr: stderr})
	stdout.end()
	said = string(stderr.end())
	if err != nil {
		if errors.As(err, new(*LostError)) || errors.As(err, new(*unconnectedError)) {
			return "", false, err
		}
		return "", false, fmt.Errorf("%s: become root: %w", s.Name(), err)
	}
	if ended.code == 127 {
		said += "\nsudo: not found"
	}
	return said, ended.code == 0 && ended.signal == "", nil
}
