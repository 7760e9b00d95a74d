package state

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"slipway.dev/slipway/provision/secret"
)

// link is one operator's connection to a server.
type link struct {
	*fakeS3
	cut atomic.Bool
}

func (l *link) Do(r *http.Request) (*http.Response, error) {
	if l.cut.Load() {
		return nil, errors.New("network is unreachable")
	}
	return l.fakeS3.Do(r)
}

func (f *fakeS3) link() (*link, Options) {
	l, at := &link{fakeS3: f}, f.at
	at.http = l
	return l, Options{S3: &at}
}

// bubble runs a test whose minutes take no time.
func bubble(t *testing.T, test func(t *testing.T, f *fakeS3)) {
	t.Helper()
	f := newS3(t)
	synctest.Test(t, func(t *testing.T) { test(t, f) })
}

// die ends a writer as if its process had died: nothing is renewed, nothing given up.
func die(s *Store) {
	l := s.at.(*bucket).lease
	l.stop()
	<-l.ended
}

func lostBy(err error) *LostError {
	var lost *LostError
	if errors.As(err, &lost) {
		return lost
	}
	return nil
}

func TestLeaseIsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		s := openStore(t, Options{S3: &f.at})
		ctx, cancel := s.Held(t.Context())
		defer cancel()
		time.Sleep(time.Hour)
		_, err := Open(t.Context(), Options{S3: &f.at})
		var locked *LockedError
		if !errors.As(err, &locked) || locked.Holder.ID == "" || locked.Frees < leaseTime+grace-renewal-time.Second {
			t.Errorf("after an hour another opened: %v", err)
		}
		put(t, s, "a", "1")
		if ctx.Err() != nil {
			t.Errorf("the lock is said to be lost: %v", context.Cause(ctx))
		}
	})
}

// TestExpiredLease: nobody takes a lock before its time, and then exactly one of many does.
func TestExpiredLease(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		s := openStore(t, Options{S3: &f.at})
		put(t, s, "a", "1")
		die(s)
		time.Sleep(leaseTime + grace - time.Second)
		if _, err := Open(t.Context(), Options{S3: &f.at}); !isLocked(err) {
			t.Errorf("before its time: %v", err)
		}
		time.Sleep(2 * time.Second)
		testTwoOpeners(t, Options{S3: &f.at})
	})
}

// TestSkewedClocks: an operator's clock says nothing about the age of a lock.
func TestSkewedClocks(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		s := openStore(t, Options{S3: &f.at})
		die(s)
		time.Sleep(time.Hour) // for this operator; the server's clock stands still
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			return false
		})
		if _, err := Open(t.Context(), Options{S3: &f.at}); !isLocked(err) {
			t.Errorf("taken over by the wrong clock: %v", err)
		}
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool { w.Header().Del("Date"); return false })
		if _, err := Open(t.Context(), Options{S3: &f.at}); !isLocked(err) {
			t.Errorf("taken over without a clock: %v", err)
		}
		f.intercept(nil)
		openStore(t, Options{S3: &f.at})
	})
}

// TestLostLease: a writer who slept too long cannot write, and disturbs nobody.
func TestLostLease(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		slow := openStore(t, Options{S3: &f.at})
		put(t, slow, "a", "1")
		die(slow)
		time.Sleep(2 * leaseTime)
		fast := openStore(t, Options{S3: &f.at})
		put(t, fast, "a", "2")
		err := slow.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("3")})
		if lost := lostBy(err); lost == nil || lost.Holder.ID != fast.at.(*bucket).lease.holder.ID {
			t.Errorf("Put gave %v", err)
		}
		for _, err := range []error{slow.Remove(t.Context(), "a"), slow.Destroy(t.Context())} {
			if lostBy(err) == nil {
				t.Errorf("gave %v", err)
			}
		}
		if err := slow.Close(); err != nil {
			t.Error(err)
		}
		put(t, fast, "b", "2")
		expect(t, fast, "a=2", "b=2")
		if _, err := Open(t.Context(), Options{S3: &f.at}); !isLocked(err) {
			t.Errorf("the loser gave up the winner's lock: %v", err)
		}
	})
}

// TestHolds: a computer that has slept, whose renewals rested as well, knows before it changes
// anything that somebody else has the lock by now; and where nobody took it, it goes on.
func TestHolds(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		l, o := f.link()
		sleeper := openStore(t, o)
		if err := sleeper.Holds(t.Context()); err != nil {
			t.Errorf("held, and %v", err)
		}
		die(sleeper)
		time.Sleep(2 * leaseTime)
		if err := sleeper.Holds(t.Context()); err != nil {
			t.Errorf("it slept, nobody took the lock, and %v", err)
		}
		time.Sleep(2 * leaseTime)
		l.cut.Store(true)
		if err := sleeper.Holds(t.Context()); err == nil || lostBy(err) != nil {
			t.Errorf("nobody could be asked: %v", err)
		}
		l.cut.Store(false)
		other := openStore(t, Options{S3: &f.at})
		if lost := lostBy(sleeper.Holds(t.Context())); lost == nil || lost.Holder.ID != other.at.(*bucket).lease.holder.ID {
			t.Errorf("the lock is another's: %v", lost)
		}
		if err := other.Holds(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestUnreachableLease: who cannot renew stops before anybody else may begin.
func TestUnreachableLease(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		l, o := f.link()
		s := openStore(t, o)
		ctx, cancel := s.Held(t.Context())
		defer cancel()
		l.cut.Store(true)
		time.Sleep(leaseTime / 2)
		l.cut.Store(false) // in time
		time.Sleep(leaseTime)
		if ctx.Err() != nil {
			t.Fatalf("lost in half its time: %v", context.Cause(ctx))
		}
		l.cut.Store(true)
		began := time.Now()
		<-ctx.Done()
		if took := time.Since(began); took > leaseTime || lostBy(context.Cause(ctx)) == nil {
			t.Errorf("held on for %s: %v", took, context.Cause(ctx))
		}
		if _, err := Open(t.Context(), Options{S3: &f.at}); !isLocked(err) {
			t.Errorf("another began beside the last request of the first: %v", err)
		}
		l.cut.Store(false)
		if err := s.Put(t.Context(), map[string]secret.Bytes{"a": nil}); lostBy(err) == nil {
			t.Errorf("wrote after all: %v", err)
		}
	})
}

// TestLostAnswers: a request that arrives and gets no answer is neither an error nor a lost lock.
func TestLostAnswers(t *testing.T) {
	for _, key := range []string{lockKey, documentKey} {
		t.Run(key, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fakeS3) {
				var lose atomic.Int32
				f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/"+key) || lose.Add(-1) < 0 {
						return false
					}
					f.handler.ServeHTTP(httptest.NewRecorder(), r)
					w.WriteHeader(dropped)
					return true
				})
				lose.Store(1)
				s := openStore(t, Options{S3: &f.at})
				lose.Store(1)
				time.Sleep(leaseTime)
				put(t, s, "a", "1")
				lose.Store(100) // more than anybody repeats: whether it arrived is not known
				time.Sleep(renewal)
				_ = s.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("2")})
				lose.Store(0)
				put(t, s, "b", "3")
				expect(t, s, "a=2", "b=3")
				time.Sleep(leaseTime)
				put(t, s, "b", "4")
			})
		})
	}
}

// TestLostRequests: what never arrived has changed nothing.
func TestLostRequests(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		l, o := f.link()
		s := openStore(t, o)
		put(t, s, "a", "1", "b", "1")
		l.cut.Store(true)
		if err := s.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("2"), "b": secret.Bytes("2")}); err == nil {
			t.Error("stored without a network")
		}
		l.cut.Store(false)
		expect(t, s, "a=1", "b=1")
		put(t, s, "b", "3")
		expect(t, s, "a=1", "b=3")
	})
}

// TestFence: it is the document that keeps out who lost the lock, not the time.
func TestFence(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		first := openStore(t, Options{S3: &f.at})
		put(t, first, "a", "1")
		die(first)
		time.Sleep(2 * leaseTime)
		// The first writer's request arrives between the new one's reading and writing.
		var once sync.Once
		f.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, documentKey) {
				once.Do(func() { f.intercept(nil); put(t, first, "a", "2") })
			}
			return false
		})
		second := openStore(t, Options{S3: &f.at})
		expect(t, second, "a=2")
		if err := first.Put(t.Context(), map[string]secret.Bytes{"a": nil}); lostBy(err) == nil {
			t.Errorf("wrote under a lost lock: %v", err)
		}
	})
}

// TestLostWhileUnknown: a write whose end is not known, then the lock lost: what the next one has
// written stays.
func TestLostWhileUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		l, o := f.link()
		first := openStore(t, o)
		l.cut.Store(true)
		if err := first.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("1")}); err == nil {
			t.Error("stored without a network")
		}
		die(first)
		time.Sleep(2 * leaseTime)
		second := openStore(t, Options{S3: &f.at})
		put(t, second, "a", "2")
		l.cut.Store(false)
		if err := first.Put(t.Context(), map[string]secret.Bytes{"a": secret.Bytes("3")}); lostBy(err) == nil {
			t.Errorf("wrote under a lost lock: %v", err)
		}
		expect(t, second, "a=2")
		put(t, second, "a", "4")
	})
}

func TestUnlock(t *testing.T) {
	bubble(t, func(t *testing.T, f *fakeS3) {
		if err := Unlock(t.Context(), f.at, "x"); err == nil || !strings.Contains(err.Error(), "not locked") {
			t.Errorf("of nothing: %v", err)
		}
		s := openStore(t, Options{S3: &f.at})
		die(s)
		if err := Unlock(t.Context(), f.at, "x"); err == nil || !strings.Contains(err.Error(), "another ID") {
			t.Errorf("of another ID: %v", err)
		}
		_, err := Open(t.Context(), Options{S3: &f.at})
		var locked *LockedError
		if !errors.As(err, &locked) || !strings.Contains(err.Error(), locked.Holder.ID) {
			t.Fatalf("the ID is not told: %v", err)
		}
		if err := Unlock(t.Context(), f.at, locked.Holder.ID); err != nil {
			t.Fatal(err)
		}
		openStore(t, Options{S3: &f.at})
		if err := s.Put(t.Context(), map[string]secret.Bytes{"a": nil}); lostBy(err) == nil {
			t.Errorf("the old holder wrote: %v", err)
		}
	})
}

func TestIsDead(t *testing.T) {
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	me.Kernel = kernel()
	gone := me
	gone.PID = 1 << 29 // above every limit of PIDs
	elsewhere, unknown, container := gone, gone, gone
	elsewhere.Host += "x"
	unknown.Kernel = ""
	container.Kernel += "1"
	for name, test := range map[string]struct {
		holder Holder
		dead   bool
	}{
		"this process": {me, false}, "another host": {elsewhere, false}, "unknown kernel": {unknown, false},
		"another namespace": {container, false}, "nothing": {Holder{}, false}, "a dead process": {gone, kernel() != ""},
	} {
		if got := test.holder.isDead(); got != test.dead {
			t.Errorf("%s is said to be dead: %v", name, got)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte(`{"pid":1,"host":"a","since":"2026-11-21T00:00:00Z","command":"c","id":"X","renewed":1}`))
	f.Add([]byte(`{"released":true}`))
	f.Add([]byte(`{"released":tru`))
	f.Fuzz(func(t *testing.T, text []byte) {
		lock := parseLock(text)
		if lock.Released && !bytes.Contains(text, []byte("true")) {
			t.Errorf("%q is taken for a lock that was given up", text)
		}
	})
}
