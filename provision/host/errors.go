package host

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// ExitError is a script that ran and failed.
type ExitError struct {
	Host string
	// Script is its first line, at most 120 characters.
	Script string
	// Code is the exit code; 128 and the signal's number for a script that a signal ended.
	Code int
	// Signal is without "SIG", for example "KILL"; empty if the script exited by itself.
	Signal string
	// Stderr is all of it.
	Stderr string
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	return fmt.Sprintf("%s: %q failed with %s: %s", e.Host, e.Script, how, strings.TrimSpace(e.Stderr))
}

// WriteError is a failed Write. No target has a partial file.
type WriteError struct {
	Host string
	// Paths are all that were to be written, in order.
	Paths []string
	// Err is an *ExitError if the host's tools failed: its Stderr names the file.
	Err error
}

func (e *WriteError) Error() string {
	what := strings.Join(e.Paths, ", ")
	if n := len(e.Paths); n > 3 {
		what = fmt.Sprintf("%s and %d more", strings.Join(e.Paths[:2], ", "), n-2)
	}
	why := e.Err.Error()
	if exit, ok := e.Err.(*ExitError); ok { //nolint:errorlint // only our own, not one that is wrapped
		why = strings.TrimSpace(exit.Stderr)
		if e.Is(syscall.ENOSPC) && !strings.Contains(why, noSpace) {
			why = noSpace + ": " + why
		}
	}
	return fmt.Sprintf("%s: write %s: %s", e.Host, what, why)
}

func (e *WriteError) Unwrap() error { return e.Err }

// noSpace is ENOSPC in the C locale.
const noSpace = "No space left on device"

// Is reports a full disk as syscall.ENOSPC. GNU tar says "Wrote only n of m bytes" when the last
// write still fits in part.
func (e *WriteError) Is(target error) bool {
	exit, ok := e.Err.(*ExitError) //nolint:errorlint // as above
	return ok && target == syscall.ENOSPC &&
		(strings.Contains(exit.Stderr, noSpace) || strings.Contains(exit.Stderr, ": Wrote only "))
}

// BusyError means that a script on the host holds the lock, did not finish in time and could not be
// terminated.
type BusyError struct {
	Host string
	// Lock is the path of the lock file, Process the PID on the host that holds it, if known.
	Lock, Process string
}

func (e *BusyError) Error() string {
	who := "process " + e.Process
	if e.Process == "" {
		who = "some process"
	}
	return fmt.Sprintf("%s: %s holds %s, which keeps changes to the host apart, and does not end: end it there, then run this again", e.Host, who, e.Lock)
}

// HostKeyError means that a host's key is not the expected one, is unknown, or is revoked. It is
// never retried.
type HostKeyError struct {
	Host, Address string
	// Want are the expected keys, as in "ssh-ed25519 SHA256:..."; empty if the host is unknown.
	Want []string
	// Got is the presented key, in the same form; if the host has no key of an expected type, the
	// types it offers.
	Got string
	// Source of the expectation: SourcePinned or SourceTrusted; or, of each key, file and line of known_hosts; or, if
	// the host is unknown, the known_hosts files.
	Source string
	// Revoked means that Source revokes the presented key, or the authority of its certificate.
	Revoked bool
	// Certificate is why the certificate that the host shows is not valid for it; Source is the
	// line of its authority.
	Certificate error
	// Remedy is the command that removes the lines of Source; empty for pinned keys.
	Remedy string
	// Ignored are malformed lines of the known_hosts files: "file:line: why".
	Ignored []string
}

// SourcePinned is the Source of keys that were given by the caller (Config.HostKeys).
const SourcePinned = "pinned"

// SourceTrusted is the Source of keys that were trusted on first use (Config.Trusted).
const SourceTrusted = "trusted on first use"

func (e *HostKeyError) Error() string {
	text := fmt.Sprintf("%s: the host at %s ", e.Host, e.Address)
	switch {
	case e.Revoked:
		text += fmt.Sprintf("shows the key %s, which is revoked (%s)", e.Got, e.Source)
	case e.Certificate != nil:
		text += fmt.Sprintf("shows the key %s, and its certificate by the authority of %s does not make it trusted: %v", e.Got, e.Source, e.Certificate)
	case len(e.Want) == 0:
		text += fmt.Sprintf("is unknown to %s: it shows the key %s", e.Source, e.Got)
	default:
		text += fmt.Sprintf("shows the key %s, not the one expected (%s, %s)", e.Got, strings.Join(e.Want, " or "), e.Source)
	}
	if len(e.Ignored) > 0 {
		text += "; malformed lines were ignored: " + strings.Join(e.Ignored, ", ")
	}
	if e.Remedy != "" {
		text += "; if its keys were changed on purpose: " + e.Remedy
	}
	return text
}

// AuthError is a host that refuses the user or all keys.
type AuthError struct {
	Host, Address, User string
	// Keys are the public keys that were offered, by fingerprint and origin:
	// "ssh-ed25519 SHA256:... (FILE)".
	Keys []string
	// Lacking are identities that were not offered: only their public keys are known, and the agent
	// does not have them.
	Lacking []string
	// Agent is why the SSH agent could not be asked.
	Agent error
	// TooMany means that the host ended the conversation before all keys were offered
	// (sshd_config(5), MaxAuthTries).
	TooMany bool
	Err     error
}

func (e *AuthError) Error() string {
	keys := "the key " + strings.Join(e.Keys, "")
	if n := len(e.Keys); n > 1 {
		keys = fmt.Sprintf("any of %d keys (%s)", n, strings.Join(e.Keys, ", "))
	}
	text := fmt.Sprintf("%s: %s does not let user %q in with %s", e.Host, e.Address, e.User, keys)
	if e.TooMany {
		text = fmt.Sprintf("%s: %s takes no more keys from user %q, before it was offered %s", e.Host, e.Address, e.User, keys)
	}
	text += lacking(e.Lacking)
	if e.Agent != nil {
		text += fmt.Sprintf("; the SSH agent does not list its keys: %v", e.Agent)
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

func (e *AuthError) Unwrap() error { return e.Err }

// lacking is the part of an error that names keys that nobody has.
func lacking(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; only the public key of " + strings.Join(names, ", ") + " is known, and no agent has the private one"
}

// JumpError is a bastion that could not be entered, or that does not connect any further.
type JumpError struct {
	// Hop is the bastion's number on the way, from 1; Of is how many there are.
	Hop, Of int
	// Address of the bastion's sshd, "host:port".
	Address string
	// To is what the bastion could not connect to; empty if it was not entered.
	To string
	// Err is an *UnreachableError, *HostKeyError, *AuthError and so on if To is empty.
	Err error
}

func (e *JumpError) Error() string {
	who := BastionName(e.Address)
	text := strings.TrimPrefix(strings.TrimPrefix(e.Err.Error(), who), ": ")
	var closed *UnreachableError
	switch {
	case e.Prohibited():
		text = fmt.Sprintf("its sshd does not forward to %s (AllowTcpForwarding, PermitOpen): %s", e.To, text)
	case e.To != "":
		text = fmt.Sprintf("it cannot connect to %s: %s", e.To, text)
	case errors.As(e.Err, &closed):
		text = "it cannot be reached: " + text
	}
	return fmt.Sprintf("%s (%d of %d): %s", who, e.Hop, e.Of, text)
}

func (e *JumpError) Unwrap() error { return e.Err }

// Prohibited reports whether the bastion's sshd does not allow the connection.
func (e *JumpError) Prohibited() bool { return e.To != "" && prohibited(e.Err) }

// BastionName is the name of a bastion as a host.
func BastionName(address string) string { return "bastion " + address }

// UnreachableError is a host with which no SSH conversation could begin.
type UnreachableError struct {
	Host, Address string
	// Waited is the time spent, at most Config.ConnectTimeout.
	Waited time.Duration
	// Last is why the last attempt failed.
	Last error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s: no SSH at %s after %s: %v", e.Host, e.Address, e.Waited.Round(100*time.Millisecond), e.Last)
}

func (e *UnreachableError) Unwrap() error { return e.Last }

// LostError is a connection that ended while something was under way, or was closed before it began.
// What a script had done by then is unknown.
type LostError struct {
	Host, Address string
	Err           error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: lost the connection to %s: %v", e.Host, e.Address, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Reason is an error of a host without the host's name at its beginning, for where that is said already.
func Reason(host string, err error) string { return strings.TrimPrefix(err.Error(), host+": ") }

func notExist(host, path string) error {
	return fmt.Errorf("%s: %w", host, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist})
}
