package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock locks the cache for one writer, with flock(2), which ends with the process. If another
// process holds it, waiting is called once, and lock waits until it is free or the context ends.
// Readers need no lock, because everything in the cache is created by rename.
func lock(ctx context.Context, cacheDir string, waiting func()) (unlock func(), _ error) {
	path := filepath.Join(cacheDir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a file of the cache
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	release := func() { _ = f.Close() } // closing releases the lock
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return release, nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		release()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	waiting()
	got := make(chan error)
	go func() {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		select {
		case got <- err:
		case <-ctx.Done(): // a blocked flock cannot be cancelled: a lock acquired too late is released
			release()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			release()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return release, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another slipway that holds %s: %w", path, context.Cause(ctx))
	}
}
