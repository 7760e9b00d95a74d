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
)

// A Put writes all its files below stagingDir, syncs them, and renames that directory to commitDir.
// This rename commits the new contents. Then each file is renamed to its place in dataDir.
const (
	stagingDir = ".staging"
	commitDir  = ".commit"

	// syncers is the number of files synced in parallel; file systems merge concurrent requests.
	syncers = 16
)

// put is atomic, even if the process or the machine dies.
func (d *directory) put(ctx context.Context, items map[string][]byte) error {
	names := slices.Sorted(maps.Keys(items))
	// There is one if an earlier Put failed after its commit.
	if err := d.finishCommit(); err != nil {
		return err
	}
	for _, name := range names {
		if err := d.checkPlace(name); err != nil {
			return err
		}
	}
	if err := d.root.RemoveAll(stagingDir); err != nil {
		return err
	}
	if err := d.stage(ctx, names, items); err != nil {
		// Nothing was committed; the partial files only use disk space.
		return errors.Join(err, d.root.RemoveAll(stagingDir))
	}
	if err := d.root.Rename(stagingDir, commitDir); err != nil {
		return err
	}
	if err := d.syncDirs("."); err != nil {
		return err
	}
	return d.finishCommit()
}

// checkPlace refuses a name that is an existing directory, or that has an existing file as one of
// its directories.
func (d *directory) checkPlace(name string) error {
	if info, err := d.root.Lstat(path.Join(dataDir, name)); err == nil && info.IsDir() {
		return fmt.Errorf("%q cannot be put: there are names below it", name)
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if info, err := d.root.Lstat(path.Join(dataDir, dir)); err == nil && !info.IsDir() {
			return fmt.Errorf("%q cannot be put: %q is a name", name, dir)
		}
	}
	return nil
}

func (d *directory) stage(ctx context.Context, names []string, items map[string][]byte) error {
	dirs := map[string]bool{stagingDir: true}
	for _, name := range names {
		p := path.Join(stagingDir, name)
		if err := d.root.MkdirAll(path.Dir(p), dirMode); err != nil {
			return err
		}
		for dir := path.Dir(p); !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(syncers)
	for _, name := range names {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return d.writeSynced(path.Join(stagingDir, name), items[name])
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return d.syncDirs(slices.Sorted(maps.Keys(dirs))...)
}

// writeSynced writes and syncs a new file. It survives a crash of the machine once its directory is
// synced too.
func (d *directory) writeSynced(p string, content []byte) (err error) {
	f, err := d.root.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// finishCommit moves committed files into place. It can be repeated after any interruption.
func (d *directory) finishCommit() error {
	names, err := d.files(commitDir)
	if err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		p := path.Join(dataDir, name)
		if err := d.root.MkdirAll(path.Dir(p), dirMode); err != nil {
			return err
		}
		for dir := path.Dir(p); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
		if err := d.root.Rename(path.Join(commitDir, name), p); err != nil {
			return err
		}
	}
	if err := d.syncDirs(slices.Sorted(maps.Keys(dirs))...); err != nil {
		return err
	}
	return d.root.RemoveAll(commitDir)
}

// syncDirs syncs directories, which makes renames and new names durable.
func (d *directory) syncDirs(dirs ...string) error {
	var group errgroup.Group
	group.SetLimit(syncers)
	for _, dir := range dirs {
		group.Go(func() error {
			f, err := d.root.Open(dir)
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
	}
	return group.Wait()
}

// remove removes names in order. A missing name is not an error.
func (d *directory) remove(_ context.Context, names []string) error {
	if err := d.finishCommit(); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, name := range names {
		p := path.Join(dataDir, name)
		if info, err := d.root.Lstat(p); err == nil && info.IsDir() {
			return fmt.Errorf("%q is not a name: there are names below it", name)
		}
		if err := d.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Remove empty directories too. The first one that cannot be removed is not empty.
		dir := path.Dir(p)
		for ; dir != dataDir && d.root.Remove(dir) == nil; dir = path.Dir(dir) {
			delete(dirs, dir)
		}
		dirs[dir] = true
	}
	return d.syncDirs(existing(d.root, dirs)...)
}

// existing returns the directories that exist, sorted.
func existing(root *os.Root, dirs map[string]bool) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for dir := range dirs {
			if _, err := root.Lstat(dir); err == nil && !yield(dir) {
				return
			}
		}
	})
}
