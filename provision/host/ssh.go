package host

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// SSH is a host reached over one SSH connection, kept alive, that carries all sessions side by
// side. A connection that is lost ends what is under way with a *LostError; the next operation
// connects again, within Config.ConnectTimeout.
type SSH struct {
	config Config

	mu      sync.Mutex
	current *connection
	closed  bool
	dialing chan struct{} // the turn to connect again

	// rising is the turn to find out how to become root, and guards what follows.
	rising  chan struct{}
	risen   bool
	how     elevation
	refused *SudoError
}

var (
	_ Host        = (*SSH)(nil)
	_ Dialer      = (*SSH)(nil)
	_ Monitored   = (*SSH)(nil)
	_ Reconnecter = (*SSH)(nil)
)

func newSSH(c Config, l *link) *SSH {
	return &SSH{config: c, current: newConnection(c, l), dialing: make(chan struct{}, 1), rising: make(chan struct{}, 1)}
}

// Name implements Host.
func (s *SSH) Name() string { return s.config.Name }

// Run implements Host.
func (s *SSH) Run(ctx context.Context, cmd Cmd) (Result, error) { return run(ctx, s, cmd) }

// Write implements Host.
func (s *SSH) Write(ctx context.Context, files []File) error { return write(ctx, s, files) }

// Read implements Host.
func (s *SSH) Read(ctx context.Context, path string) ([]byte, error) { return read(ctx, s, path) }

// Close implements Host. Scripts in flight are not ended on the host, only our part in them.
func (s *SSH) Close() error {
	s.mu.Lock()
	s.closed = true
	c := s.current
	s.mu.Unlock()
	c.close(net.ErrClosed)
	return nil
}

// Done implements Monitored, for the current connection; Close ends it too.
func (s *SSH) Done() <-chan struct{} { return s.connection().life.Done() }

// Err implements Monitored with a *LostError.
func (s *SSH) Err() error {
	return s.connection().err()
}

func (s *SSH) connection() *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Connect implements Reconnecter.
func (s *SSH) Connect(ctx context.Context) error {
	_, err := s.live(ctx)
	return err
}

// live returns the connection, and makes a new one if it is lost. After Close it returns the one
// that is closed.
func (s *SSH) live(ctx context.Context) (*connection, error) {
	if c, usable := s.usable(); usable {
		return c, nil
	}
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", s.config.Name, context.Cause(ctx))
	}
	c, usable := s.usable()
	if usable {
		return c, nil
	}
	if !c.mourned { // guarded by the turn
		c.mourned = true
		s.report(fmt.Sprintf("connection lost (%v), reconnecting", context.Cause(c.life)))
	}
	l, err := connect(ctx, s.config)
	if err != nil {
		return nil, &unconnectedError{err}
	}
	c = newConnection(s.config, l)
	s.mu.Lock()
	s.current = c
	closed := s.closed
	s.mu.Unlock()
	if closed {
		c.close(net.ErrClosed)
		return c, nil
	}
	s.report("connected again")
	return c, nil
}

// usable reports whether the connection is not lost, or for ever closed.
func (s *SSH) usable() (c *connection, usable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.closed || s.current.life.Err() == nil
}

// unconnectedError is a connection that was lost and could not be made again. Its error names the
// host, and is that of Dial.
type unconnectedError struct{ error }

func (e *unconnectedError) Unwrap() error { return e.error }

func (s *SSH) report(what string) {
	if s.config.Report != nil {
		s.config.Report(what)
	}
}

func (s *SSH) lock() lock { return lock{s.config.Lock, s.config.Patience} }

func (s *SSH) do(ctx context.Context, j job) (exit, error) {
	c, err := s.live(ctx)
	if err != nil {
		return exit{}, err
	}
	return c.do(ctx, j)
}
