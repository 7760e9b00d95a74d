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
	"strconv"
	"strings"
	"syscall"
)

// Layout of a directory: "version" (of the format), "lock" (held with flock, names the holder),
// "data/<name>" and "logs/<name>"; ".staging" and ".commit" during a put.
const (
	dataDir     = "data"
	logsDir     = "logs"
	versionFile = "version"

	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// PermissionError means that other users may read the state, or that it belongs to another user.
type PermissionError struct {
	Dir  string
	Mode fs.FileMode
	UID  int
}

func (e *PermissionError) Error() string {
	if e.Mode&0o077 != 0 {
		return fmt.Sprintf("%s contains private keys but has mode %04o, so others may read it: run chmod 700 %s", e.Dir, e.Mode, e.Dir)
	}
	return fmt.Sprintf("%s belongs to user %d, not to you: run as that user, or choose another directory", e.Dir, e.UID)
}

// directory is the backend on a local disk.
type directory struct {
	path  string
	root  *os.Root
	flock *os.File // nil if read-only, and after close
}

// openDirectory makes the directory if opened for writing, and changes nothing else.
func openDirectory(dir string, writer bool) (*directory, error) {
	if writer {
		if err := os.MkdirAll(dir, dirMode); err != nil { //nolint:gosec // G703: the user chooses where this is
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	uid := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 || (uid >= 0 && os.Geteuid() != 0 && uid != os.Geteuid()) {
		return nil, errors.Join(&PermissionError{Dir: dir, Mode: info.Mode().Perm(), UID: uid}, root.Close())
	}
	return &directory{path: dir, root: root}, nil
}

func (d *directory) String() string { return d.path }

// held never ends: flock is kept until it is released, or the process dies.
func (d *directory) held() context.Context { return context.Background() }

func (d *directory) sure(context.Context) error { return nil }

// lock also initializes, upgrades and repairs.
func (d *directory) lock(context.Context) error {
	if err := d.acquire(); err != nil {
		return err
	}
	// Only now, because the previous holder of the lock may have been initializing.
	have, err := d.version()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = d.initialize()
	case err == nil && have < version:
		err = d.writeVersion()
	}
	if err != nil {
		return err
	}
	return d.finishCommit()
}

// version returns the error fs.ErrNotExist if the directory is new and has no version.
func (d *directory) version() (int, error) {
	text, err := d.root.ReadFile(versionFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, d.checkNew(err)
	case err != nil:
		return 0, err
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || have < 1 {
		return 0, fmt.Errorf("its version file is damaged: it should contain a number from 1 to %d", version)
	}
	if have > version {
		return 0, &VersionError{Have: have, Supported: version}
	}
	return have, nil
}

// checkNew returns missing if the directory can become a state, or another error if it has other
// contents.
func (d *directory) checkNew(missing error) error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// These are left if a process was killed while initializing. If there is a version now,
		// another process has just finished initializing.
		if n := entry.Name(); n != lockFile && n != versionFile && n != versionFile+".new" && n != dataDir && n != logsDir {
			return fmt.Errorf("not a state directory: it has no version file and contains %q: choose an empty or another directory", n)
		}
		if !entry.IsDir() {
			continue
		}
		if below, err := fs.ReadDir(d.root.FS(), entry.Name()); err != nil || len(below) > 0 {
			return errors.Join(err, fmt.Errorf("not a state directory: it has no version file, and %q is not empty: choose an empty or another directory", entry.Name()))
		}
	}
	return missing
}

// initialize makes an empty state. The version file is written last: it makes the directory a
// state.
func (d *directory) initialize() error {
	for _, dir := range []string{dataDir, logsDir} {
		if err := d.root.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	return d.writeVersion()
}

func (d *directory) writeVersion() error {
	temporary := versionFile + ".new"
	if err := d.root.RemoveAll(temporary); err != nil {
		return err
	}
	if err := d.writeSynced(temporary, []byte(strconv.Itoa(version)+"\n")); err != nil {
		return err
	}
	if err := d.root.Rename(temporary, versionFile); err != nil {
		return err
	}
	return d.syncDirs(".")
}

// view returns the directory itself, after checking that it is a state.
func (d *directory) view(ctx context.Context) (view, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	_, err := d.version()
	return d, err
}

func (d *directory) get(_ context.Context, name string) ([]byte, error) {
	// Read committed files that are not in place yet first. They are renamed to where we look next.
	content, err := d.root.ReadFile(path.Join(commitDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		content, err = d.root.ReadFile(path.Join(dataDir, name))
	}
	return content, err
}

func (d *directory) names(_ context.Context, prefix string) ([]string, error) {
	var names []string
	for _, base := range []string{commitDir, dataDir} {
		found, err := d.files(base)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.Sort(names)
	return slices.Compact(names), nil
}

// files lists the files below base, relative to it. A missing directory has none.
func (d *directory) files(base string) ([]string, error) {
	var names []string
	err := fs.WalkDir(d.root.FS(), base, func(p string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a writer may move files meanwhile
		case err != nil || entry.IsDir():
			return err
		}
		names = append(names, strings.TrimPrefix(p, base+"/"))
		return nil
	})
	return names, err
}

func (d *directory) log(name string) (io.WriteCloser, error) {
	p := path.Join(logsDir, name)
	if err := d.root.MkdirAll(path.Dir(p), dirMode); err != nil {
		return nil, err
	}
	return d.root.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
}

// destroy removes the files of the state, the lock last, and then the directory if it is empty. It
// may not be empty, because another process may use it once the lock is removed.
func (d *directory) destroy(context.Context) error {
	for _, name := range []string{dataDir, logsDir, stagingDir, commitDir, versionFile + ".new", versionFile, lockFile} {
		if err := d.root.RemoveAll(name); err != nil {
			return err
		}
	}
	if entries, err := fs.ReadDir(d.root.FS(), "."); err != nil || len(entries) > 0 {
		return err
	}
	return os.Remove(d.path)
}

func (d *directory) close() error {
	err := d.root.Close()
	if d.flock != nil {
		err = errors.Join(err, d.flock.Truncate(0), d.flock.Close())
		d.flock = nil
	}
	return err
}
