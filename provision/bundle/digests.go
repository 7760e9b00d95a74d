package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// digests has the SHA-256 of files that were read before, by their Identity. Reading a whole bundle
// takes seconds; if a file's identity is the same, it has not been written. Anyone who can set the
// clock or write to the disk below the file system can deceive it; [Bundle.Verify] reads
// everything.
type digests struct {
	file string // next to the bundles, not below them, because machines see those

	mu    sync.Mutex
	known map[string]string
	news  bool
}

// most is the maximum number of digests: a few bundles with their components. If there are more,
// all are discarded.
const most = 4096

// settled is the minimum age of a change so that a later one has another time, because file systems
// have a limited time resolution.
const settled = time.Second

func openDigests(cacheDir string) *digests {
	d := &digests{file: filepath.Join(cacheDir, "digests.json"), known: map[string]string{}}
	data, err := os.ReadFile(d.file)
	if err == nil && json.Unmarshal(data, &d.known) != nil || d.known == nil || len(d.known) > most {
		d.known = map[string]string{} // only a memo: what it forgets is read again
	}
	return d
}

// of returns a file's SHA-256, and reads it only if its identity is unknown.
func (d *digests) of(ctx context.Context, file string) (string, error) {
	id, changed, err := identify(file)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	sum, ok := d.known[id]
	d.mu.Unlock()
	if ok && sha256Hex.MatchString(sum) {
		return sum, nil
	}
	read := time.Now()
	if sum, err = fileDigest(ctx, file); err != nil {
		return "", err
	}
	if read.Sub(changed) > settled {
		d.mu.Lock()
		d.known[id], d.news = sum, true
		d.mu.Unlock()
	}
	return sum, nil
}

// save stores the digests. Of several concurrent saves, the last one wins.
func (d *digests) save() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.news {
		return nil
	}
	d.news = false
	return writeJSON(d.file, d.known)
}

// holds reports whether a file matches its artifact: type, size, mode and content.
func (d *digests) holds(ctx context.Context, a Artifact, file string) error {
	if err := a.present(file); err != nil {
		return err
	}
	sum, err := d.of(ctx, file)
	if err == nil && sum != a.SHA256 {
		err = fmt.Errorf("%s has the SHA-256 %s, want %s", file, sum, a.SHA256)
	}
	return err
}

// check compares every file of a bundle with its artifact.
func (d *digests) check(ctx context.Context, b *Bundle) error {
	errs := make([]error, len(b.Artifacts))
	var group errgroup.Group
	group.SetLimit(4) // as in Verify
	for i, a := range b.Artifacts {
		group.Go(func() error {
			errs[i] = d.holds(ctx, a, b.File(a))
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by artifact
	return errors.Join(errs...)
}

// Identity identifies a file in one state on a computer: device, inode, size, modification and
// change time, as GNU find's -printf "@%D:%i:%s:%T@:%C@" prints it; empty if there is no such file.
// Links are followed. A mount of the file on the same computer has the same identity.
func Identity(file string) string {
	id, _, _ := identify(file) // without it, the file is read
	return id
}

func identify(file string) (id string, changed time.Time, err error) {
	var s unix.Stat_t
	if err := unix.Stat(file, &s); err != nil {
		return "", time.Time{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	seconds, nanos := s.Mtim.Unix()
	changedSeconds, changedNanos := s.Ctim.Unix()
	id = fmt.Sprintf("@%d:%d:%d:%d.%09d0:%d.%09d0", s.Dev, s.Ino, s.Size, seconds, nanos, changedSeconds, changedNanos)
	return id, time.Unix(changedSeconds, changedNanos), nil
}
