// Package state is where a cluster's secrets and run logs live between runs of slipway: a directory that only its
// owner can read, or a bucket of S3; locked by one writer at a time, and encrypted with age where the spec asks for it.
//
// It stores bytes under names and knows nothing of what they mean. What can be observed on the hosts is not kept
// here; what is lost with the state is the authority over the cluster. Encryption hides contents from whoever can read
// the directory or the bucket; it does not keep out somebody who can write there. Names, logs and the lock are plain.
//
// Store is what others use. Below it a backend keeps bytes: directory and bucket differ in how they write all or
// nothing and in how they lock. A vault between the two encrypts and decrypts; the backends see its ciphertext only.
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

// version is that of the format. It changes when an older slipway would misread it. 1 is a directory that is never
// encrypted; 2 may be encrypted, and may be a bucket.
const version = 2

// ErrReadOnly is returned by whatever would write to a Store that OpenReadOnly gave.
var ErrReadOnly = errors.New("the state is open for reading only")

// Options say where a state is and how it is protected. Exactly one of Dir and S3 is set; without Recipients and
// Passphrase the state is not encrypted.
type Options struct {
	// Dir is a directory of the state's own.
	Dir string
	// S3 is a place in a bucket.
	S3 *S3
	// Recipients are age or SSH public keys, as one line each; the state is encrypted to all of them.
	Recipients []string
	// Passphrase has the state encrypted with a passphrase instead.
	Passphrase bool
	// Keys open a state that is encrypted.
	Keys Keys
}

// String says where the state is: a directory, or s3://bucket/prefix.
func (o Options) String() string {
	if o.S3 != nil {
		return o.S3.String()
	}
	return o.Dir
}

// backend keeps bytes under names. All but view, held and String are called by one goroutine at a time.
type backend interface {
	// String says where it is.
	String() string
	// lock makes it ready to be written to, or gives a *LockedError. Without it, only view and close may be called.
	lock(ctx context.Context) error
	// locked says whether somebody holds the lock now.
	locked(ctx context.Context) (bool, error)
	// held is done when the lock was lost; its cause is a *LostError.
	held() context.Context
	// sure says whether the lock is held, by the wall clock too; where that is not known it finds out.
	sure(ctx context.Context) error
	// view looks at what is stored now; errors.Is finds fs.ErrNotExist where there is no state.
	view(ctx context.Context) (view, error)
	// put stores all items or none of them; what is loose may be an exception, except in a put that has keyName.
	put(ctx context.Context, items map[string][]byte) error
	// remove goes through loose names in their order.
	remove(ctx context.Context, names []string) error
	log(name string) (io.WriteCloser, error)
	// destroy removes everything, the lock last.
	destroy(ctx context.Context) error
	close() error
}

// view is what a backend has. That of a bucket is of one moment, but for loose names; a directory is looked at name by
// name. A view is used by one goroutine.
type view interface {
	// get gives an error that is fs.ErrNotExist for a name that is not there.
	get(ctx context.Context, name string) ([]byte, error)
	// names gives those that begin with prefix, in order.
	names(ctx context.Context, prefix string) ([]string, error)
}

// Store is the state of one cluster. Its methods are safe for concurrent use.
type Store struct {
	at     backend
	keys   Keys
	writer bool
	// writing serializes Put, Remove, Destroy and Close.
	writing sync.Mutex
	// opening guards vault, which a reader renews when a writer has encrypted anew.
	opening sync.Mutex
	vault   *vault
}

// Open makes the state where there is none and locks it for writing until Close. A state that is not encrypted as the
// options ask is encrypted anew, all or nothing. Errors to branch on are *LockedError, *KeyError, *PermissionError
// and *VersionError; after any of them the state is as it was. What an earlier process did not live to finish is
// finished first.
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

// OpenReadOnly opens a state that exists, without the lock: another process may write meanwhile. Every name is
// either old or new, but two of them may be of different ages. Errors are as for Open, and errors.Is finds
// fs.ErrNotExist where there is no state.
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
	case (o.Dir == "") == (o.S3 == nil):
		return nil, errors.New("a state is in a directory or in S3, in one of the two")
	case o.S3 != nil:
		return openBucket(ctx, *o.S3)
	}
	return openDirectory(o.Dir, writer)
}

// String says where the state is, as that of Options does.
func (s *Store) String() string { return s.at.String() }

// Held gives a context that ends when the lock is lost, with a *LostError as its cause: what depends on being the only
// one runs under it. The lock of a directory is never lost.
func (s *Store) Held(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	held := s.at.held()
	stop := context.AfterFunc(held, func() { cancel(context.Cause(held)) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// Holds says whether the lock is held at this moment, and is nil where it is. A computer may have slept for longer than the
// lock lasts, and Held needs a moment to notice that: who is about to change something asks first. The error is a *LostError,
// or says why it could not be found out.
func (s *Store) Holds(ctx context.Context) error { return s.at.sure(ctx) }

// Close gives up the lock. The Store cannot be used afterwards.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.at.close(); err != nil {
		return fmt.Errorf("close state %s: %w", s.at, err)
	}
	return nil
}

// Get returns what was put under a name; errors.Is finds fs.ErrNotExist where that is nothing.
func (s *Store) Get(ctx context.Context, name string) (secret.Bytes, error) {
	found, err := s.read(ctx, func(view) ([]string, error) { return []string{name}, checkName(name) })
	return found[name], err
}

// GetAll returns everything whose name begins with prefix, under the rest of the name. The prefix is "" or ends
// with a slash: GetAll(ctx, "pki/") has "ca.crt" for what was put as "pki/ca.crt".
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

// below lists the names of users: those of slipway's own begin with a dot.
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

// read gives the contents of the names that choose picks.
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

// readOne makes sure that content and key belong together: a writer may encrypt anew between the two.
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
			return nil, fmt.Errorf("%q cannot be decrypted: it was damaged, or written by somebody without the key: %w", name, err)
		}
		return plain, nil
	}
}

// Put stores contents under names, all of them or none, even if the process or the machine dies on the way.
// A name may not be a directory of another one: not both "a" and "a/b". A *LostError says that somebody else has the
// lock now; nothing was written then.
//
// The exception are loose names, see IsLoose. Each of them is written whole or not at all, in no order, and before those
// that are not loose. After an error, or a death on the way, some of them may be new beside contents that are old; what
// has to be there before another one is put before it. That a directory does better is nothing to rely on.
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

// Remove forgets names, loose ones in the order given. One that is not there is no error.
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

// Destroy removes the state with all that is in it, logs too. Only Close may follow.
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

// Log opens a log file for appending. The caller closes it, and then it is kept; slipway never reads it. Logs are not
// encrypted: no secret may be written there.
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
