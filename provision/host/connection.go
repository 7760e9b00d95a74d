package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// sshd's MaxSessions is 10: the rest is for terminating sessions whose context ended.
	maxSessions = 8
	maxKillers  = 2
	// refusalLimit is how long sshd may refuse a session although we have no other.
	refusalLimit = 2 * time.Second
	refusalPause = 20 * time.Millisecond
	// patience is how many KeepAlive intervals a host may be silent: a host that swaps or is short
	// of CPU is not dead.
	patience = 6
)

// link is an SSH connection and the TCP connection under it.
type link struct {
	*ssh.Client
	tcp *bannerConn
}

// received counts the bytes that came from the host.
func (l *link) received() int64 { return l.tcp.count.Load() }

// connection is one SSH connection to a host.
type connection struct {
	config Config
	link   *link
	// life ends with the connection; its cause says why.
	life    context.Context
	end     context.CancelCauseFunc
	slots   chan struct{}
	killers chan struct{}
	tending sync.WaitGroup
	// mourned means that its loss was reported.
	mourned bool
}

func newConnection(c Config, l *link) *connection {
	s := &connection{config: c, link: l, slots: make(chan struct{}, maxSessions), killers: make(chan struct{}, maxKillers)}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.tending.Go(func() {
		err := l.Wait()
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = errors.New("the host closed it")
		}
		s.end(err)
	})
	s.tending.Go(s.keepAlive)
	return s
}

// close ends the connection, for a reason.
func (s *connection) close(why error) {
	s.end(why)
	_ = s.link.tcp.Close() // not the mux: its farewell would wait for a host that no longer reads
	s.tending.Wait()
}

// keepAlive ends the connection when the host owes an answer for too long and has sent nothing else
// meanwhile. A host that was silent for an interval is asked. The request is OpenSSH's own; any
// answer, also a refusal, is a sign of life.
func (s *connection) keepAlive() {
	ticker := time.NewTicker(s.config.KeepAlive)
	defer ticker.Stop()
	answered := make(chan struct{}, 1)
	var asked bool
	alive, received := time.Now(), s.link.received()
	for {
		select {
		case <-s.life.Done():
			return
		case <-answered:
			asked, alive = false, time.Now()
			continue
		case <-ticker.C:
		}
		if now := s.link.received(); now != received {
			alive, received = time.Now(), now
			continue
		}
		if silence := time.Since(alive); asked && silence > patience*s.config.KeepAlive {
			s.end(fmt.Errorf("no sign of life for %s", silence.Round(100*time.Millisecond)))
			_ = s.link.tcp.Close()
			return
		}
		if !asked {
			asked = true
			s.tending.Go(func() {
				_, _, _ = s.link.SendRequest("keepalive@openssh.com", true, nil)
				answered <- struct{}{}
			})
		}
	}
}

// err is why the connection has ended; nil if it has not.
func (s *connection) err() error {
	if s.life.Err() == nil {
		return nil
	}
	return s.lost()
}

func (s *connection) lost() error {
	return &LostError{s.config.Name, s.config.Address, context.Cause(s.life)}
}

func (s *connection) do(ctx context.Context, j job) (exit, error) {
	session, release, err := s.open(ctx, s.slots)
	if err != nil {
		return exit{}, err
	}
	session.Stdout, session.Stderr = j.stdout, j.stderr
	ended := make(chan error, 1)
	go func() {
		defer release()
		ended <- s.converse(session, j)
	}()
	select {
	case err := <-ended:
		return s.exit(err)
	case <-ctx.Done():
		if j.tag == "" { // it does nothing, and cannot be found
			_ = session.Close()
			return exit{}, context.Cause(ctx)
		}
		if err := s.terminate(session, ended, j); err != nil {
			return exit{}, fmt.Errorf("%w, and the script may be running still: %w", context.Cause(ctx), err)
		}
		return exit{}, context.Cause(ctx)
	}
}

func (s *connection) converse(session *ssh.Session, j job) error {
	defer func() { _ = session.Close() }()
	in, err := session.StdinPipe()
	if err != nil {
		return err
	}
	if err := session.Start(j.line); err != nil {
		return err
	}
	go j.stdin.feed(in)
	return session.Wait()
}

// explain returns the loss of the connection instead of its effect on a channel that is being
// opened: an end of file, or an invalid answer. The library reports the effect first.
func (s *connection) explain(err error) error {
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		return err
	}
	_, err = s.exit(err)
	return err
}

// exit reads the result of a session from x/crypto/ssh.
func (s *connection) exit(err error) (exit, error) {
	var failed *ssh.ExitError
	if err == nil {
		return exit{}, nil
	}
	if errors.As(err, &failed) {
		return exit{code: failed.ExitStatus(), signal: failed.Signal()}, nil
	}
	// The end of the connection ends its sessions before it is known by itself.
	select {
	case <-s.life.Done():
		return exit{}, s.lost()
	case <-time.After(time.Second):
		return exit{}, err
	}
}

// open waits for a free slot and opens a session. release frees the slot.
func (s *connection) open(ctx context.Context, slots chan struct{}) (*ssh.Session, func(), error) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case <-s.life.Done():
		return nil, nil, s.lost()
	}
	release := func() { <-slots }
	type opened struct {
		session *ssh.Session
		err     error
	}
	result := make(chan opened, 1)
	go func() {
		session, err := s.request(ctx)
		result <- opened{session, err}
	}()
	select {
	case o := <-result:
		if o.err == nil {
			return o.session, release, nil
		}
		release()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, fmt.Errorf("open a session: %w", s.explain(o.err))
	case <-ctx.Done():
		go func() { // the answer to our request is still to come
			defer release()
			if o := <-result; o.err == nil {
				_ = o.session.Close()
			}
		}()
		return nil, nil, context.Cause(ctx)
	case <-s.life.Done(): // x/crypto/ssh may wait forever for an answer to a request at this moment
		return nil, nil, s.lost()
	}
}

// request requests a session. sshd counts a session until its channel is closed on both sides, so
// it may refuse another for a moment, or for longer if its MaxSessions is smaller than our limit:
// then our sessions have to end first.
func (s *connection) request(ctx context.Context) (*ssh.Session, error) {
	start := time.Now()
	for {
		session, err := s.link.NewSession()
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || (refused.Reason != ssh.ConnectionFailed && refused.Reason != ssh.ResourceShortage) {
			return session, err
		}
		if len(s.slots)+len(s.killers) > 1 {
			start = time.Now()
		} else if time.Since(start) > refusalLimit {
			return nil, err
		}
		select {
		case <-time.After(refusalPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.life.Done():
			return nil, s.lost()
		}
	}
}
