package state

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// The lock of a bucket is an object with a lease. Its holder rewrites it at every renewal, and
// stops writing the state if it could not renew for the duration of the lease. A little later, when
// the holder has certainly stopped, another process may take the lock over. It writes with a
// condition on the ETag, so that only one process succeeds.
//
// Only the server's clock decides whether a lease has expired: the age of the object is the
// response's Date minus its Last-Modified. So clocks of operators may be wrong by any amount, and
// no process has to watch a lock for a minute. The lease only protects work on hosts: the document
// cannot be written after the lock was lost, see bucket.lock.
const (
	leaseTime = time.Minute
	renewal   = leaseTime / 4
	grace     = 10 * time.Second // Last-Modified has whole seconds; a request may be in flight
)

// lockText is the content of the object. A released lock is not deleted but marked, so that it
// still has an ETag to compare.
type lockText struct {
	Holder
	Renewed  int  `json:"renewed"` // number of renewals; makes each version different
	Released bool `json:"released,omitempty"`
}

// lease is a held lock.
type lease struct {
	bucket *bucket
	holder Holder
	// claimed means that the document was written under this lock.
	claimed bool
	// lost is done when another process may have the lock.
	lost   context.Context
	losing context.CancelCauseFunc
	// stop ends the renewals; ended is closed when they have ended.
	stop  context.CancelFunc
	ended chan struct{}

	mu       sync.Mutex // guards the fields below
	etag     string
	renewed  int
	last     time.Time // start of the last successful renewal
	released bool
}

// acquire takes the lock if it is free; otherwise it returns the holder at once.
func (b *bucket) acquire(ctx context.Context) (*lease, error) {
	etag, err := b.takeable(ctx)
	if err != nil {
		return nil, err
	}
	holder, err := self()
	if err != nil {
		return nil, err
	}
	holder.ID, holder.Kernel = rand.Text(), kernel()
	l := &lease{bucket: b, holder: holder, etag: etag, ended: make(chan struct{})}
	switch err := l.write(ctx, false); {
	case errors.Is(err, errMoved): // another process was faster
		if _, err := b.takeable(ctx); err != nil {
			return nil, err
		}
		return nil, &LockedError{} // and has released it again
	case err != nil:
		return nil, err
	}
	l.lost, l.losing = context.WithCancelCause(context.Background())
	var running context.Context
	running, l.stop = context.WithCancel(context.Background())
	go l.keep(running)
	return l, nil
}

// takeable returns the ETag under which the lock may be taken ("" if it does not exist), or a
// *LockedError.
func (b *bucket) takeable(ctx context.Context) (string, error) {
	now, err := b.read(ctx, lockKey)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	lock := parseLock(now.body)
	if left := leaseTime + grace - now.age; left > 0 && !lock.Released && !lock.isDead() {
		return "", &LockedError{Holder: lock.Holder, Frees: left}
	}
	return now.etag, nil
}

// parseLock returns an unknown holder if the lock cannot be parsed: its lease expires like any
// other.
func parseLock(text []byte) lockText {
	var lock lockText
	if json.Unmarshal(text, &lock) != nil {
		return lockText{}
	}
	return lock
}

// write rewrites the lock, on the condition that it has not changed since the last write.
func (l *lease) write(ctx context.Context, released bool) error {
	l.renewed++
	text, err := json.Marshal(lockText{Holder: l.holder, Renewed: l.renewed, Released: released})
	if err != nil {
		return err
	}
	began := time.Now()
	etag, err := l.bucket.swap(ctx, lockKey, l.etag, text)
	if err == nil {
		l.etag, l.last = etag, began
	}
	return err
}

// renew rewrites the lock. An earlier renewal may have succeeded without a response; then renew
// continues from it.
func (l *lease) renew(ctx context.Context, released bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.write(ctx, released)
	if !errors.Is(err, errMoved) {
		return err
	}
	now, err := l.bucket.read(ctx, lockKey)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock := parseLock(now.body)
	if lock.ID != l.holder.ID || lock.Released {
		return &LostError{Holder: lock.Holder}
	}
	l.etag = now.etag
	return l.write(ctx, released)
}

func (l *lease) lastRenewal() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// sure reports whether the lock is held. If this is uncertain, it renews the lock: a computer may
// have slept, which only its wall clock shows.
func (l *lease) sure(ctx context.Context) error {
	if l.lost.Err() != nil {
		return context.Cause(l.lost)
	}
	last := l.lastRenewal()
	if time.Since(last) < leaseTime && time.Since(last.Round(0)) < leaseTime {
		return nil
	}
	err := l.renew(ctx, false)
	var lost *LostError
	if errors.As(err, &lost) {
		l.losing(fmt.Errorf("state %s: %w", l.bucket, lost))
	}
	return err
}

// keep renews until it is stopped, or the lock is lost.
func (l *lease) keep(ctx context.Context) {
	defer close(l.ended)
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		began, ends := time.Now(), l.lastRenewal().Add(leaseTime)
		attempt, cancel := context.WithDeadline(ctx, earlier(began.Add(renewal), ends))
		err := l.renew(attempt, false)
		cancel()
		var lost *LostError
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
		case errors.As(err, &lost):
			l.losing(fmt.Errorf("state %s: %w", l.bucket, lost))
			return
		case !time.Now().Before(ends):
			l.losing(fmt.Errorf("state %s: %w", l.bucket, &LostError{Err: err}))
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// lose is called if a writer found the document changed. It reports who has the lock now.
func (l *lease) lose(ctx context.Context) error {
	lost := &LostError{}
	if now, err := l.bucket.read(ctx, lockKey); err == nil {
		if lock := parseLock(now.body); lock.ID != l.holder.ID && !lock.Released {
			lost.Holder = lock.Holder
		}
	}
	l.losing(fmt.Errorf("state %s: %w", l.bucket, lost))
	return lost
}

// release ends the renewals and releases the lock by marking or removing the object. A lost lock is
// not released.
func (l *lease) release(ctx context.Context, remove func(etag string) error) error {
	l.stop()
	<-l.ended
	if l.released || l.lost.Err() != nil {
		return nil
	}
	l.released = true
	var lost *LostError
	err := l.renew(ctx, true)
	if errors.As(err, &lost) {
		return nil
	}
	if err == nil && remove != nil {
		if err = remove(l.etag); refused(err) {
			return nil // another process has taken it since
		}
	}
	return err
}

// Unlock releases the lock of a bucket whose holder is known to be dead. The ID, from the
// *LockedError, ensures that it is the lock of this holder.
func Unlock(ctx context.Context, at S3, id string) error {
	b, err := openBucket(ctx, at)
	if err == nil {
		err = b.unlock(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("unlock state: %w", err)
	}
	return nil
}

func (b *bucket) unlock(ctx context.Context, id string) error {
	now, err := b.read(ctx, lockKey)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock := parseLock(now.body)
	if err != nil || lock.Released {
		return fmt.Errorf("%s is not locked", b)
	}
	if lock.ID != id {
		return fmt.Errorf("the lock of %s has another ID, %s: process %d on %s took it at %s (%s)",
			b, lock.ID, lock.PID, lock.Host, lock.Since.Local().Format(time.DateTime), lock.Command)
	}
	lock.Released = true
	text, err := json.Marshal(lock)
	if err != nil {
		return err
	}
	if _, err = b.swap(ctx, lockKey, now.etag, text); errors.Is(err, errMoved) {
		return fmt.Errorf("the holder of %s has just renewed its lock, so it is alive: stop process %d on %s", b, lock.PID, lock.Host)
	}
	return err
}
