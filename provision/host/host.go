// Package host is the one narrow seam for effects on a machine: run, write and read, over SSH or on this machine.
//
// It knows nothing of Kubernetes, and never decides what to do; it only does it, once, with a deadline.
package host

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
)

// Host is a machine on which slipway acts as root.
// All methods are safe for concurrent use, honour ctx, and return errors that name the host.
type Host interface {
	// Name is the node's name, as in the spec.
	Name() string
	// Run executes a POSIX shell script as root. A non-zero exit is an *ExitError that carries the whole stderr.
	Run(ctx context.Context, cmd Cmd) (Result, error)
	// Write puts files in place, all in one round trip: each under a temporary name in its own directory,
	// never readable by others before it has its mode, fsynced, then renamed. Missing parent directories
	// are made (0755). Files whose content is already right are rewritten all the same: the caller diffs.
	Write(ctx context.Context, files []File) error
	// Read returns a file's content; errors.Is(err, fs.ErrNotExist) where there is none.
	Read(ctx context.Context, path string) ([]byte, error)
	// Close ends the connection. Sessions in flight fail.
	Close() error
}

// Dialer is a second power of some hosts: reaching the network as the host does (SSH's direct-tcpip).
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Cmd is a script to run.
type Cmd struct {
	// Script is POSIX sh. It is visible in the process list: secrets go to Stdin.
	Script string
	// Stdin is fed to the script; nil is empty.
	Stdin io.Reader
	// Stdout and Stderr, when set, receive output as it comes; Result then holds none of that stream.
	Stdout, Stderr io.Writer
}

// Result is what a finished script printed.
type Result struct {
	Stdout, Stderr []byte
}

// File is content with its place, mode and owner.
type File struct {
	// Path is absolute and clean.
	Path string
	Mode fs.FileMode
	// Owner is "user:group", default "root:root".
	Owner   string
	Content []byte
}

// Format keeps contents, which may be secret, out of every printing verb.
func (f File) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (%04o, %d bytes)", f.Path, f.Mode.Perm(), len(f.Content))
}

// ExitError is a script that ran and failed.
type ExitError struct {
	Host string
	// Script is its first line, at most 120 characters.
	Script string
	Code   int
	Signal string
	// Stderr is all of it.
	Stderr string
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	return fmt.Sprintf("%s: %q failed with %s: %s", e.Host, e.Script, how, e.Stderr)
}
