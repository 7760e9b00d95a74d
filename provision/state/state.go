// Package state is where a cluster's secrets and run logs live between runs of slipway: a directory that only its
// owner can read, locked by one writer at a time.
//
// It stores bytes under names and knows nothing of what they mean. What can be observed on the hosts is not kept
// here; what is lost with this directory is the authority over the cluster. Contents are not encrypted yet: the
// directory's mode and the disk are what protects them. The methods of Store take contexts, names and bytes only,
// so that a remote or an encrypting store can have the same.
//
// Layout of the directory: "version" (of this layout), "lock" (held with flock, tells who holds it),
// "data/<name>" and "logs/<name>"; ".staging" and ".commit" while a Put is on its way.
package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"slipway.dev/slipway/provision/secret"
)

const (
	dataDir     = "data"
	logsDir     = "logs"
	versionFile = "version"

	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// ErrReadOnly is returned by whatever would write to a Store that OpenReadOnly gave.
var ErrReadOnly = errors.New("the state is open for reading only")

// Store is the state of one cluster. Its methods are safe for concurrent use.
type Store struct {
	dir  string
	root *os.Root
	lock *os.File // nil when read-only, and after Close
	// writer tells one from Open from one from OpenReadOnly.
	writer bool
	// writing serializes Put, Remove and Close.
	writing sync.Mutex
}

// Open makes dir where there is none, with mode 0700, and locks it for writing until Close.
// Errors to branch on are *LockedError, *PermissionError and *VersionError. A Put that an earlier process did not
// live to finish is finished first.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open state %s: %w", dir, context.Cause(ctx))
	}
	if err := os.MkdirAll(dir, dirMode); err != nil { //nolint:gosec // G703: the user chooses where this is
		return nil, fmt.Errorf("open state: %w", err)
	}
	s, err := open(dir)
	if err != nil {
		return nil, err
	}
	s.writer = true
	if err := s.prepare(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// OpenReadOnly opens a state that exists, without the lock: another process may write meanwhile. Every name is
// either old or new, but two of them may be of different ages. Errors are as for Open, and errors.Is finds
// fs.ErrNotExist where there is no state.
func OpenReadOnly(ctx context.Context, dir string) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open state %s: %w", dir, context.Cause(ctx))
	}
	s, err := open(dir)
	if err != nil {
		return nil, err
	}
	if err := s.checkVersion(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// open looks at the directory and changes nothing.
func open(dir string) (*Store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	info, err := root.Stat(".")
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("open state %s: %w", dir, err)
	}
	uid := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 || (uid >= 0 && os.Geteuid() != 0 && uid != os.Geteuid()) {
		_ = root.Close()
		return nil, &PermissionError{Dir: dir, Mode: info.Mode().Perm(), UID: uid}
	}
	return &Store{dir: dir, root: root}, nil
}

// prepare locks, initializes and repairs.
func (s *Store) prepare() error {
	// Before the lock, so that nothing is left behind in a directory that is not ours.
	if err := s.checkVersion(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	// Again, because the one who held the lock may have been initializing.
	switch err := s.checkVersion(); {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.initialize(); err != nil {
			return fmt.Errorf("initialize state %s: %w", s.dir, err)
		}
	case err != nil:
		return err
	}
	if err := s.finishCommit(); err != nil {
		return fmt.Errorf("finish an interrupted write to state %s: %w", s.dir, err)
	}
	return nil
}

// Dir is the directory as it was given to Open.
func (s *Store) Dir() string { return s.dir }

// Close gives up the lock. The Store cannot be used afterwards.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.root.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Truncate(0), s.lock.Close())
		s.lock = nil
	}
	if err != nil {
		return fmt.Errorf("close state %s: %w", s.dir, err)
	}
	return nil
}

// Get returns what was put under a name; errors.Is finds fs.ErrNotExist where that is nothing.
func (s *Store) Get(ctx context.Context, name string) (secret.Bytes, error) {
	if err := s.usable(ctx, name); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	// What is committed and not yet in place comes first. It leaves there by a rename to where we look next.
	content, err := s.root.ReadFile(path.Join(commitDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		content, err = s.root.ReadFile(path.Join(dataDir, name))
	}
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", s.dir, err)
	}
	return content, nil
}

// GetAll returns everything whose name begins with prefix, under the rest of the name. The prefix is "" or ends
// with a slash: GetAll(ctx, "pki/") has "ca.crt" for what was put as "pki/ca.crt".
func (s *Store) GetAll(ctx context.Context, prefix string) (map[string]secret.Bytes, error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]secret.Bytes, len(names))
	for _, name := range names {
		content, err := s.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		all[strings.TrimPrefix(name, prefix)] = content
	}
	return all, nil
}

// List returns the names that begin with prefix ("" or ending with a slash), sorted.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	under := "."
	if prefix != "" {
		under = strings.TrimSuffix(prefix, "/")
		if under == prefix {
			return nil, fmt.Errorf("list state: prefix %q does not end with a slash", prefix)
		}
	}
	if under != "." {
		if err := s.usable(ctx, under); err != nil {
			return nil, fmt.Errorf("list state: %w", err)
		}
	}
	var names []string
	for _, base := range []string{commitDir, dataDir} {
		found, err := s.files(base, under)
		if err != nil {
			return nil, fmt.Errorf("list state %s: %w", s.dir, err)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// files lists the files below base/under by their names, relative to base. A missing directory has none.
func (s *Store) files(base, under string) ([]string, error) {
	var names []string
	err := fs.WalkDir(s.root.FS(), path.Join(base, under), func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a reader may look while a writer moves
		case err != nil || d.IsDir():
			return err
		}
		names = append(names, strings.TrimPrefix(p, base+"/"))
		return nil
	})
	return names, err
}

// Log opens a log file for appending. The caller closes it; it survives, and is never read by slipway.
func (s *Store) Log(name string) (io.WriteCloser, error) {
	if err := s.writable(context.Background(), name); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	p := path.Join(logsDir, name)
	if err := s.root.MkdirAll(path.Dir(p), dirMode); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", s.dir, err)
	}
	f, err := s.root.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", s.dir, err)
	}
	return f, nil
}

func (s *Store) usable(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (s *Store) writable(ctx context.Context, names ...string) error {
	if !s.writer {
		return ErrReadOnly
	}
	return s.usable(ctx, names...)
}
