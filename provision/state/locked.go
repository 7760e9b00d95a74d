package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Locked reports whether a process has the lock now, for a Store from OpenReadOnly. A killed
// process has no lock.
func (s *Store) Locked(ctx context.Context) (bool, error) {
	locked, err := s.at.locked(ctx)
	if err != nil {
		return false, fmt.Errorf("check the lock of state %s: %w", s.at, err)
	}
	return locked, nil
}

// locked tries the flock. It does not try if no holder is recorded, because a writer that starts at
// this moment could then be refused.
func (d *directory) locked(context.Context) (bool, error) {
	f, err := d.root.Open(lockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) //nolint:gosec // file descriptors are small
	}
	locked := errors.Is(err, unix.EWOULDBLOCK)
	if locked {
		err = nil
	}
	return locked, errors.Join(err, f.Close())
}

// locked checks whether the lease could be taken.
func (b *bucket) locked(ctx context.Context) (bool, error) {
	_, err := b.takeable(ctx)
	var taken *LockedError
	if errors.As(err, &taken) {
		return true, nil
	}
	return false, err
}
