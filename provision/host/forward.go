package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// DialContext implements Dialer: the host opens a TCP connection to address, as seen from there. A
// deadline of the connection that passes ends the connection for good, unlike one of a TCP
// connection.
func (s *SSH) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	// x/crypto/ssh may wait forever for an answer to a request that was sent when the connection
	// ended.
	lasting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	conn, err := s.link.DialContext(lasting, network, address)
	if err == nil {
		return &forwarded{Conn: conn}, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else {
		err = refused(s.explain(err))
	}
	return nil, fmt.Errorf("%s: dial %s from there: %w", s.config.Name, address, err)
}

// refused turns sshd's message that nothing listens there into syscall.ECONNREFUSED, like a local
// dial. OpenSSH sends the system's text, in the locale that it was started in (C for a service).
func refused(err error) error {
	var open *ssh.OpenChannelError
	if errors.As(err, &open) && open.Reason == ssh.ConnectionFailed && strings.Contains(strings.ToLower(open.Message), "connection refused") {
		return &refusedError{err}
	}
	return err
}

type refusedError struct{ error }

func (e *refusedError) Unwrap() []error { return []error{e.error, syscall.ECONNREFUSED} }

// forwarded adds deadlines to a channel, which has none.
type forwarded struct {
	net.Conn
	expired atomic.Bool
	mu      sync.Mutex
	timers  [2]*time.Timer // read, write
}

func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	return n, f.reason(err)
}

func (f *forwarded) Write(p []byte) (int, error) {
	n, err := f.Conn.Write(p)
	return n, f.reason(err)
}

func (f *forwarded) reason(err error) error {
	if err != nil && f.expired.Load() {
		return os.ErrDeadlineExceeded
	}
	return err
}

func (f *forwarded) Close() error {
	_ = f.SetDeadline(time.Time{})
	return f.Conn.Close()
}

func (f *forwarded) SetDeadline(t time.Time) error {
	f.set(0, t)
	f.set(1, t)
	return nil
}

func (f *forwarded) SetReadDeadline(t time.Time) error {
	f.set(0, t)
	return nil
}

func (f *forwarded) SetWriteDeadline(t time.Time) error {
	f.set(1, t)
	return nil
}

func (f *forwarded) set(which int, t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timers[which] != nil {
		f.timers[which].Stop()
		f.timers[which] = nil
	}
	if !t.IsZero() {
		f.timers[which] = time.AfterFunc(time.Until(t), func() {
			f.expired.Store(true)
			_ = f.Conn.Close()
		})
	}
}
