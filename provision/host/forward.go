package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// forwardLimit is how long a bastion may take to connect to a host, before that is tried again: its
// system retries for longer than a machine takes to boot.
const forwardLimit = 15 * time.Second

// DialContext implements Dialer: the host opens a TCP connection to address, as seen from there. A
// deadline of the connection that passes ends the connection for good, unlike one of a TCP
// connection.
func (s *SSH) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.forward(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: dial %s from there: %w", s.config.Name, address, err)
	}
	return conn, nil
}

// Jump is DialContext of a bastion, whose number on the way is hop, of how many. It takes 15 s at
// most, and an error is a *JumpError.
func (s *SSH) Jump(ctx context.Context, hop, of int, address string) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, min(forwardLimit, s.config.ConnectTimeout))
	defer cancel()
	conn, err := s.forward(limited, "tcp", address)
	if err != nil {
		return nil, &JumpError{Hop: hop, Of: of, Address: s.config.Address, To: address, Err: err}
	}
	return conn, nil
}

func (s *SSH) forward(ctx context.Context, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("only TCP connections are made there, not %q", network)
	}
	request, err := directTCPIP(address)
	if err != nil {
		return nil, err
	}
	c, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	type opened struct {
		channel ssh.Channel
		err     error
	}
	result := make(chan opened, 1)
	go func() {
		channel, requests, err := c.link.OpenChannel("direct-tcpip", request)
		if err == nil {
			go ssh.DiscardRequests(requests)
		}
		result <- opened{channel, err}
	}()
	select {
	case o := <-result:
		switch {
		case o.err == nil:
			return &forwarded{Conn: tunnel{o.channel}, lost: c.err}, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		return nil, refused(c.explain(o.err))
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.life.Done(): // x/crypto/ssh may wait forever for an answer to a request at this moment
		err = c.lost()
	}
	go func() { // the answer to our request is still to come
		if o := <-result; o.err == nil {
			_ = o.channel.Close()
		}
	}()
	return nil, err
}

// directTCPIP is the payload of the request for a connection to address, "host:port" (RFC 4254,
// section 7.2). The originator is nobody in particular, as with x/crypto/ssh.
func directTCPIP(address string) ([]byte, error) {
	name, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the port of %s: %w", address, err)
	}
	return ssh.Marshal(struct {
		Host           string
		Port           uint32
		Originator     string
		OriginatorPort uint32
	}{name, uint32(port), "0.0.0.0", 0}), nil
}

// tunnel is the channel of a connection that a host has made. Its stderr is not read: a server has
// nothing to write there.
type tunnel struct{ ssh.Channel }

// LocalAddr implements net.Conn; the addresses are known at the other end only.
func (tunnel) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

// RemoteAddr implements net.Conn.
func (tunnel) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

// SetDeadline implements net.Conn; forwarded has deadlines.
func (tunnel) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (tunnel) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (tunnel) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// connectErrors are sshd's messages about a connection that could not be made, in lower case, and
// what a local dial returns. OpenSSH sends the system's text, in the locale that it was started in
// (C for a service).
var connectErrors = []struct {
	message string
	err     error
}{
	{"connection refused", syscall.ECONNREFUSED},
	{"no route to host", syscall.EHOSTUNREACH},
	{"network is unreachable", syscall.ENETUNREACH},
	{"timed out", syscall.ETIMEDOUT},
}

// refused adds to sshd's message the error of a local dial.
func refused(err error) error {
	var open *ssh.OpenChannelError
	if errors.As(err, &open) && open.Reason == ssh.ConnectionFailed {
		for _, row := range connectErrors {
			if strings.Contains(strings.ToLower(open.Message), row.message) {
				return &refusedError{err, row.err}
			}
		}
	}
	return err
}

// prohibited reports whether sshd does not allow a connection.
func prohibited(err error) bool {
	var open *ssh.OpenChannelError
	return errors.As(err, &open) && open.Reason == ssh.Prohibited
}

type refusedError struct {
	error
	local error
}

func (e *refusedError) Unwrap() []error { return []error{e.error, e.local} }

// forwarded adds deadlines to a channel, which has none.
type forwarded struct {
	net.Conn
	lost    func() error // why the connection that it is part of has ended
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
	switch {
	case err == nil:
		return nil
	case f.expired.Load():
		return os.ErrDeadlineExceeded
	}
	if lost := f.lost(); lost != nil {
		return lost
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
