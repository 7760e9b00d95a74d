// Package state stores a cluster's secrets and run logs between runs of slipway, in a directory
// that only its owner can read, or in an S3 bucket. Only one writer at a time has the lock.
// Contents are encrypted with age if the spec says so.
//
// It stores bytes under names and does not interpret them. What can be observed on the hosts is not
// stored here. Without the state, slipway can no longer change the cluster. Encryption protects
// contents from readers of the directory or the bucket, but not from writers. Names, logs and the
// lock are not encrypted.
//
// Other packages use Store. It has a backend that stores bytes: directory and bucket differ in how
// they write atomically and how they lock. A vault between the two encrypts and decrypts; backends
// only see ciphertext.
package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/provision/secret"
)

// version of the format. It changes if an older slipway would misread the new format. 1 is an
// unencrypted directory; 2 may be encrypted, and may be a bucket.
const version = 2

// ErrReadOnly is returned by methods that write, on a Store from OpenReadOnly.
var ErrReadOnly = errors.New("the state is open for reading only")

// Options say where a state is and how it is encrypted. Exactly one of Dir, S3 and Memory is set. Without
// Recipients and Passphrase, the state is not encrypted.
type Options struct {
	// Dir is the directory of this state only.
	Dir string
	// S3 is a prefix in a bucket.
	S3 *S3
	// Memory is of simulations.
	Memory *Memory
	// Recipients are age or SSH public keys, one line each. The state is encrypted to all of them.
	Recipients []string
	// Passphrase means that the state is encrypted with a passphrase instead.
	Passphrase bool
	// Keys decrypt an encrypted state.
	Keys Keys
}

// String returns the location: a directory, or s3://bucket/prefix.
func (o Options) String() string {
	switch {
	case o.S3 != nil:
		return o.S3.String()
	case o.Memory != nil:
		return "memory"
	}
	return o.Dir
}

// backend stores bytes under names. Only view, held and String may be called concurrently.
type backend interface {
	// String returns its location.
	String() string
	// lock prepares it for writing, or returns a *LockedError. Without lock, only view and close
	// may be called.
	lock(ctx context.Context) error
	// locked reports whether a process has the lock now.
	locked(ctx context.Context) (bool, error)
	// held is done when the lock is lost; its cause is a *LostError.
	held() context.Context
	// sure returns an error unless the lock is held, also by the wall clock. If this is uncertain,
	// it checks.
	sure(ctx context.Context) error
	// view returns what is stored now, or fs.ErrNotExist if there is no state.
	view(ctx context.Context) (view, error)
	// put is atomic, except for loose names; with keyName, it is atomic for loose names too.
	put(ctx context.Context, items map[string][]byte) error
	// remove removes loose names in order.
	remove(ctx context.Context, names []string) error
	log(name string) (io.WriteCloser, error)
	// destroy removes everything, the lock last.
	destroy(ctx context.Context) error
	close() error
}

// view is the content of a backend. The view of a bucket is a snapshot, except for loose names; a
// directory is read name by name. A view must not be used concurrently.
type view interface {
	// get returns fs.ErrNotExist for a name that does not exist.
	get(ctx context.Context, name string) ([]byte, error)
	// names returns the names that begin with prefix, sorted.
	names(ctx context.Context, prefix string) ([]string, error)
}

// Store is the state of one cluster. Its methods are safe for concurrent use.
type Store struct {
	at     backend
	keys   Keys
	writer bool
	// writing serializes Put, Remove, Destroy and Close.
	writing sync.Mutex
	// opening guards vault, which a reader reopens after a writer has re-encrypted the state.
	opening sync.Mutex
	vault   *vault
}

// Open creates the state if there is none, and locks it for writing until Close. If the encryption
// differs from the options, the state is re-encrypted atomically. Errors to branch on are
// *LockedError, *KeyError, *PermissionError and *VersionError; after any of them the state is
// unchanged. Interrupted writes of an earlier process are finished first.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o, true)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("open state %s: %w", s.at, err), s.Close())
	}
	return s, nil
}

// OpenReadOnly opens an existing state without the lock: another process may write meanwhile. Every
// read returns either the old or the new content of a name, but two names may be of different ages.
// Errors are those of Open, and fs.ErrNotExist if there is no state.
func OpenReadOnly(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	v, err := s.at.view(ctx)
	if err == nil {
		_, err = s.unlock(ctx, v)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state %s: %w", s.at, err), s.Close())
	}
	return s, nil
}

func open(ctx context.Context, o Options, writer bool) (*Store, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("open state: %w", context.Cause(ctx))
	}
	at, err := o.backend(ctx, writer)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return &Store{at: at, keys: o.Keys, writer: writer, vault: &vault{}}, nil
}

func (o Options) backend(ctx context.Context, writer bool) (backend, error) {
	switch {
	case o.Memory != nil:
		return &memory{o.Memory}, nil
	case (o.Dir == "") == (o.S3 == nil):
		return nil, errors.New("exactly one of directory and S3 must be set")
	case o.S3 != nil:
		return openBucket(ctx, *o.S3)
	}
	return openDirectory(o.Dir, writer)
}

// String returns the location, like Options.String.
func (s *Store) String() string { return s.at.String() }

// Held returns a context that ends when the lock is lost, with a *LostError as its cause. Use it
// for work that needs the lock. The lock of a directory is never lost.
func (s *Store) Held(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	held := s.at.held()
	stop := context.AfterFunc(held, func() { cancel(context.Cause(held)) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// Holds returns nil if the lock is held at this moment. Call it before a change: a computer may
// have slept for longer than the lock lasts, and Held notices that only after a moment. The error
// is a *LostError, or says why it could not be checked.
func (s *Store) Holds(ctx context.Context) error { return s.at.sure(ctx) }

// Close releases the lock. The Store cannot be used afterwards.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.at.close(); err != nil {
		return fmt.Errorf("close state %s: %w", s.at, err)
	}
	return nil
}

// Get returns the content of a name, or fs.ErrNotExist if it does not exist.
func (s *Store) Get(ctx context.Context, name string) (secret.Bytes, error) {
	found, err := s.read(ctx, func(view) ([]string, error) { return []string{name}, checkName(name) })
	return found[name], err
}

// GetAll returns the contents of all names that begin with prefix, by the rest of the name. The
// prefix is "" or ends with a slash: GetAll(ctx, "pki/") has "ca.crt" for what was put as
// "pki/ca.crt".
func (s *Store) GetAll(ctx context.Context, prefix string) (map[string]secret.Bytes, error) {
	found, err := s.read(ctx, func(v view) ([]string, error) { return below(ctx, v, prefix) })
	if err != nil {
		return nil, err
	}
	all := make(map[string]secret.Bytes, len(found))
	for name, content := range found {
		all[strings.TrimPrefix(name, prefix)] = content
	}
	return all, nil
}

// List returns the names that begin with prefix ("" or ending with a slash), sorted.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	v, err := s.at.view(ctx)
	var names []string
	if err == nil {
		names, err = below(ctx, v, prefix)
	}
	if err != nil {
		return nil, fmt.Errorf("list state %s: %w", s.at, err)
	}
	return names, nil
}

// below lists the names of callers. Names of this package begin with a dot.
func below(ctx context.Context, v view, prefix string) ([]string, error) {
	if prefix != "" {
		dir, ok := strings.CutSuffix(prefix, "/")
		if !ok {
			return nil, fmt.Errorf("prefix %q does not end with a slash", prefix)
		}
		if err := checkName(dir); err != nil {
			return nil, err
		}
	}
	names, err := v.names(ctx, prefix)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == keyName }), nil
}

// read returns the contents of the names that choose returns.
func (s *Store) read(ctx context.Context, choose func(view) ([]string, error)) (map[string]secret.Bytes, error) {
	v, err := s.at.view(ctx)
	var names []string
	if err == nil {
		names, err = choose(v)
	}
	found := make(map[string]secret.Bytes, len(names))
	for _, name := range names {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			found[name], err = s.readOne(ctx, v, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", s.at, err)
	}
	return found, nil
}

// readOne ensures that content and key belong together: a writer may re-encrypt between the two
// reads.
func (s *Store) readOne(ctx context.Context, v view, name string) (secret.Bytes, error) {
	for {
		vault, err := s.unlock(ctx, v)
		if err != nil {
			return nil, err
		}
		content, err := v.get(ctx, name)
		if err != nil {
			return nil, err
		}
		header, err := optional(v.get(ctx, keyName))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(header, vault.header) {
			continue
		}
		plain, err := vault.open(content)
		if err != nil {
			return nil, fmt.Errorf("%q cannot be decrypted: it is damaged, or was written without the key: %w", name, err)
		}
		return plain, nil
	}
}

// Put stores contents under names atomically, even if the process or the machine dies. A name must
// not be a directory of another one, such as "a" and "a/b". A *LostError means that the lock was
// lost and nothing was written.
//
// Loose names (see IsLoose) are only written atomically one by one, in no order, and before other
// names. After an error or a crash, some of them may be new while other contents are old. If one
// must exist before another, put it first. Directories give stronger guarantees, but do not rely on
// them.
func (s *Store) Put(ctx context.Context, items map[string]secret.Bytes) error {
	names := slices.Sorted(maps.Keys(items))
	if err := errors.Join(s.writable(ctx, names...), checkLoose(names)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if len(items) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	sealed, err := s.vault.sealAll(items)
	if err == nil {
		err = s.at.put(ctx, sealed)
	}
	if err != nil {
		return fmt.Errorf("write state %s: %w", s.at, err)
	}
	return nil
}

// Remove removes names, loose ones in the given order. A missing name is not an error.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	if err := errors.Join(s.writable(ctx, names...), checkLoose(names)); err != nil {
		return fmt.Errorf("remove from state: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.at.remove(ctx, names); err != nil {
		return fmt.Errorf("remove from state %s: %w", s.at, err)
	}
	return nil
}

// Destroy removes the state and everything in it, including logs. Only Close may be called
// afterwards.
func (s *Store) Destroy(ctx context.Context) error {
	if err := s.writable(ctx); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.at.destroy(ctx); err != nil {
		return fmt.Errorf("remove state %s: %w", s.at, err)
	}
	return nil
}

// Log opens a log file for appending. The caller must close it to store it; slipway never reads it.
// Logs are not encrypted, so never write secrets to them.
func (s *Store) Log(name string) (io.WriteCloser, error) {
	if err := s.writable(context.Background(), name); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w, err := s.at.log(name)
	if err != nil {
		return nil, fmt.Errorf("open log in %s: %w", s.at, err)
	}
	return w, nil
}

func (s *Store) writable(ctx context.Context, names ...string) error {
	if !s.writer {
		return ErrReadOnly
	}
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
