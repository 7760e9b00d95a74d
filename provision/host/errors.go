package host

import (
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
	// Source of the expectation: SourcePinned; or, of each key, file and line of known_hosts; or, if
	// the host is unknown, the known_hosts files.
	Source string
	// Revoked means that Source revokes the presented key.
	Revoked bool
}

// SourcePinned is the Source of keys that were given by the caller (Config.HostKeys).
const SourcePinned = "pinned"

func (e *HostKeyError) Error() string {
	switch {
	case e.Revoked:
		return fmt.Sprintf("%s: the host at %s shows the key %s, which is revoked (%s)", e.Host, e.Address, e.Got, e.Source)
	case len(e.Want) == 0:
		return fmt.Sprintf("%s: the host at %s is unknown to %s: it shows the key %s", e.Host, e.Address, e.Source, e.Got)
	}
	return fmt.Sprintf("%s: the host at %s shows the key %s, not the one expected (%s, %s)",
		e.Host, e.Address, e.Got, strings.Join(e.Want, " or "), e.Source)
}

// AuthError is a host that refuses the user or all keys.
type AuthError struct {
	Host, Address, User string
	// Keys are the fingerprints of the public keys that were offered.
	Keys []string
	Err  error
}

func (e *AuthError) Error() string {
	keys := "the key " + strings.Join(e.Keys, "")
	if n := len(e.Keys); n > 1 {
		keys = fmt.Sprintf("any of %d keys (%s)", n, strings.Join(e.Keys, ", "))
	}
	return fmt.Sprintf("%s: %s does not let user %q in with %s: %v", e.Host, e.Address, e.User, keys, e.Err)
}

func (e *AuthError) Unwrap() error { return e.Err }

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

// LostError is a connection that ended while something was under way, or before it began.
// What a script had done by then is unknown.
type LostError struct {
	Host, Address string
	Err           error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: lost the connection to %s: %v", e.Host, e.Address, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

func notExist(host, path string) error {
	return fmt.Errorf("%s: %w", host, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist})
}
