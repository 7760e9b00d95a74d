// Package host is the only interface for effects on a machine: run, write and read, over SSH or on
// this machine.
//
// It does not know Kubernetes and makes no decisions; it carries out an operation, once, with a
// deadline. Dial reaches a machine over SSH and Local is this machine: both pass the suite of
// testing/hosttest. What a machine needs is sshd, a POSIX sh, coreutils, grep, sed and tar, and
// sudo for users other than root; with Config.Lock also util-linux (flock).
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
	// Run executes a POSIX shell script as root, with LC_ALL=C, umask 022 and the usual PATH (sbin
	// included). A non-zero exit is an *ExitError that carries the whole stderr. When ctx ends
	// first, the script and whatever it started get SIGTERM, later SIGKILL, and the error wraps
	// ctx's cause.
	Run(ctx context.Context, cmd Cmd) (Result, error)
	// Write puts files in place, all in one round trip: each under a temporary name (its own and
	// ".slipway-new") in its own directory, never readable by others before it has its mode and
	// owner, fsynced, then renamed, and the directory fsynced. Missing parents are made (0755);
	// those that exist stay untouched. Files whose content is already right are rewritten all the
	// same: the caller diffs. Nothing is renamed before everything has arrived, then directory by
	// directory in the order of files; and the temporary files of a write that failed are removed.
	// From when all has arrived it keeps apart from other changes (Cmd.Exclusive). A failure is a
	// *WriteError.
	Write(ctx context.Context, files []File) error
	// Read returns a file's content, or fs.ErrNotExist if it does not exist.
	Read(ctx context.Context, path string) ([]byte, error)
	// Close ends the connection. Sessions in flight fail.
	Close() error
}

// Dialer is a second power of some hosts: reaching the network as the host does (SSH's
// direct-tcpip).
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Monitored is a second power of some hosts: their connection may end by itself. It stays ended,
// unless the host is a Reconnecter as well: then the next operation makes another.
type Monitored interface {
	// Done is closed when the current connection has ended.
	Done() <-chan struct{}
	// Err is nil until then, and afterwards the reason.
	Err() error
}

// Reconnecter is a second power of some hosts: a connection that was lost is made again.
type Reconnecter interface {
	// Connect returns at once if there is a connection, and otherwise connects, as every other
	// operation would. What a lost operation had done by then is unknown.
	Connect(ctx context.Context) error
}

// Cmd is a script to run.
type Cmd struct {
	// Script is POSIX sh, of any length. It is visible in the process list: secrets go to Stdin.
	Script string
	// Stdin is fed to the script; nil is empty. An error of the reader ends the script and is Run's
	// error.
	Stdin io.Reader
	// Stdout and Stderr, when set, receive output as it comes; Result then holds none of that
	// stream. An error of the writer ends the script and is Run's error. Neither is written to
	// after Run returned.
	Stdout, Stderr io.Writer
	// Exclusive means that the script does not run at the same time as another such script or a
	// Write on the same host, from any slipway process, because scripts of a killed or disconnected
	// process continue. While it waits for the lock, it prints a line that begins with LockWaiting
	// to Stderr, and afterwards the line LockAcquired. After Config.Patience it terminates the
	// other script; if that fails, the error is a *BusyError. Hosts without a lock (Config.Lock)
	// ignore it.
	Exclusive bool
}

// Result is what a finished script printed, each stream at most 16 MiB: a script that prints more
// is ended with an error, unless it prints to Cmd.Stdout.
type Result struct {
	Stdout, Stderr []byte
}

// File is content with its place, mode and owner.
type File struct {
	// Path is absolute and clean, without newlines.
	Path string
	// Mode is permission bits, for a regular file; with fs.ModeDir it is a directory, made if it
	// does not exist, whose mode and owner are always set; with fs.ModeSymlink a symbolic link.
	Mode fs.FileMode
	// Owner is "user:group", default "root:root".
	Owner string
	// Content of a file, target of a symbolic link, empty for a directory.
	Content []byte
	// Open, if set, has the content of a regular file instead of Content, for files that are too
	// large for the memory: Size bytes, streamed. SHA256, in hex, is what they must have; the host
	// compares before it renames.
	Open   func() (io.ReadCloser, error)
	Size   int64
	SHA256 string
}

// length is the number of bytes of the content.
func (f File) length() int64 {
	if f.Open != nil {
		return f.Size
	}
	return int64(len(f.Content))
}

// Format keeps contents, which may be secret, out of every printing verb.
func (f File) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (%04o, %d bytes)", f.Path, f.Mode.Perm(), f.length())
}
