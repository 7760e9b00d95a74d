package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/secret"
)

// A Put writes all its files below stagingDir, makes them durable, and renames that directory to commitDir. That
// rename is the moment from which the new contents count. Then each file is renamed to its place in dataDir.
const (
	stagingDir = ".staging"
	commitDir  = ".commit"

	// syncers is how many files are made durable at a time; file systems merge concurrent requests.
	syncers = 16
)

// Put stores contents under names, all of them or none, even if the process or the machine dies on the way.
// A name may not be a directory of another one: not both "a" and "a/b".
func (s *Store) Put(ctx context.Context, items map[string]secret.Bytes) error {
	names := slices.Sorted(maps.Keys(items))
	if err := s.writable(ctx, names...); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.put(ctx, names, items); err != nil {
		return fmt.Errorf("write state %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, names []string, items map[string]secret.Bytes) error {
	// One is left over when an earlier Put failed between its commit and its end.
	if err := s.finishCommit(); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.checkPlace(name); err != nil {
			return err
		}
	}
	if err := s.root.RemoveAll(stagingDir); err != nil {
		return err
	}
	if err := s.stage(ctx, names, items); err != nil {
		// Nothing has changed; what is half written only takes room.
		return errors.Join(err, s.root.RemoveAll(stagingDir))
	}
	if err := s.root.Rename(stagingDir, commitDir); err != nil {
		return err
	}
	if err := s.syncDirs("."); err != nil {
		return err
	}
	return s.finishCommit()
}

// checkPlace refuses a name whose place is taken by a directory, or one of whose directories is a file.
func (s *Store) checkPlace(name string) error {
	if info, err := s.root.Lstat(path.Join(dataDir, name)); err == nil && info.IsDir() {
		return fmt.Errorf("%q cannot be put: there are names below it", name)
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if info, err := s.root.Lstat(path.Join(dataDir, dir)); err == nil && !info.IsDir() {
			return fmt.Errorf("%q cannot be put: %q is a name", name, dir)
		}
	}
	return nil
}

func (s *Store) stage(ctx context.Context, names []string, items map[string]secret.Bytes) error {
	dirs := map[string]bool{stagingDir: true}
	for _, name := range names {
		p := path.Join(stagingDir, name)
		if err := s.root.MkdirAll(path.Dir(p), dirMode); err != nil {
			return err
		}
		for d := path.Dir(p); !dirs[d]; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(syncers)
	for _, name := range names {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return s.writeSynced(path.Join(stagingDir, name), items[name].Reveal())
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.syncDirs(slices.Sorted(maps.Keys(dirs))...)
}

// writeSynced makes a new file that survives a crash of the machine once its directory is synced.
func (s *Store) writeSynced(p string, content []byte) (err error) {
	f, err := s.root.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// finishCommit moves what is committed into place. Repeating it, after any interruption, does no harm.
func (s *Store) finishCommit() error {
	names, err := s.files(commitDir, ".")
	if err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		p := path.Join(dataDir, name)
		if err := s.root.MkdirAll(path.Dir(p), dirMode); err != nil {
			return err
		}
		for d := path.Dir(p); d != "." && !dirs[d]; d = path.Dir(d) {
			dirs[d] = true
		}
		if err := s.root.Rename(path.Join(commitDir, name), p); err != nil {
			return err
		}
	}
	if err := s.syncDirs(slices.Sorted(maps.Keys(dirs))...); err != nil {
		return err
	}
	return s.root.RemoveAll(commitDir)
}

// syncDirs makes renames and new names in directories durable.
func (s *Store) syncDirs(dirs ...string) error {
	var group errgroup.Group
	group.SetLimit(syncers)
	for _, dir := range dirs {
		group.Go(func() error {
			d, err := s.root.Open(dir)
			if err != nil {
				return err
			}
			return errors.Join(d.Sync(), d.Close())
		})
	}
	return group.Wait()
}

// Remove forgets names, one after the other. One that is not there is no error.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	if err := s.writable(ctx, names...); err != nil {
		return fmt.Errorf("remove from state: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.remove(names); err != nil {
		return fmt.Errorf("remove from state %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) remove(names []string) error {
	if err := s.finishCommit(); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		p := path.Join(dataDir, name)
		if info, err := s.root.Lstat(p); err == nil && info.IsDir() {
			return fmt.Errorf("%q is not a name: there are names below it", name)
		}
		if err := s.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Directories without names go too. The first that cannot go still has some.
		dir := path.Dir(p)
		for ; dir != dataDir && s.root.Remove(dir) == nil; dir = path.Dir(dir) {
			delete(dirs, dir)
		}
		dirs[dir] = true
	}
	return s.syncDirs(existing(s.root, dirs)...)
}

// existing drops the directories that are not there (any more), and sorts.
func existing(root *os.Root, dirs map[string]bool) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for dir := range dirs {
			if _, err := root.Lstat(dir); err == nil && !yield(dir) {
				return
			}
		}
	})
}
