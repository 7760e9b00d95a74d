package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Locked says whether somebody has the lock now, for a Store that OpenReadOnly gave. A process that was killed has none.
func (s *Store) Locked(ctx context.Context) (bool, error) {
	locked, err := s.at.locked(ctx)
	if err != nil {
		return false, fmt.Errorf("look at the lock of state %s: %w", s.at, err)
	}
	return locked, nil
}

// locked asks flock by trying it. Where nobody wrote down that he holds it, it is not touched; else a writer that
// begins in this very moment could be refused.
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

// locked asks whether the lease could be had.
func (b *bucket) locked(ctx context.Context) (bool, error) {
	_, err := b.takeable(ctx)
	var taken *LockedError
	if errors.As(err, &taken) {
		return true, nil
	}
	return false, err
}
