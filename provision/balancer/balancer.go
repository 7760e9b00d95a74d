// Package balancer is the node-local TCP balancer that every node reaches the API servers through.
//
// It forwards bytes and terminates no TLS: clients verify the API server itself, so the balancer
// holds no key and need not be trusted. It chooses the server: it requests each API server's
// /readyz over verified TLS.
//
//   - A new connection goes to the ready server with the fewest connections. A server that cannot be dialled, or that
//     breaks the probe's connection, is not ready until a probe succeeds again, and the next is tried for the same client.
//   - A server that was ready and does not answer in time is slow. It is used if no other is ready: everything may be
//     slow then, and a slow server answers requests that a starting one would refuse.
//   - While there is neither, a new client is held for some seconds and connected the moment one becomes ready, so
//     that a kubelet started before the API servers loses no time to its own back-off. A server that forbids /readyz has
//     not read its RBAC rules yet, and would forbid everything: it is not ready, for as long as that may take.
//   - It fails open. A server whose certificate does not verify, or that goes on refusing to tell anonymous clients whether
//     it is ready, is used when no server is known to be ready: the probe may be what is wrong, for example during a change
//     of CA. When the hold is over, every server is tried, the best first, whatever the probes say.
//   - A server that is down loses its connections as soon as another is ready, so that watches move on quickly. One
//     that is not ready any more (the API server says so when it begins to shut down) gets no new connections and
//     keeps the ones it has, for a grace period.
//
// It is not a general load balancer: no weights, no layer 7, no metrics.
package balancer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// pollInterval is the interval for reading the configuration, and waitInterval the one while
	// there is none.
	pollInterval = time.Second
	waitInterval = 100 * time.Millisecond
	// drainTime is how long connections may continue after the balancer was told to stop.
	drainTime = 2 * time.Second
)

// Run balances until ctx is cancelled, and then returns nil after at most 2 s of draining.
//
// The configuration at path, and the CA file it names, are read again when they change. A missing
// or invalid file at the start is waited for; an invalid one later is logged and the last valid one
// stays in force. systemd (NOTIFY_SOCKET) is told when all addresses are listened on, and each time
// which configuration is in force (Status).
func Run(ctx context.Context, path string, logger *slog.Logger) error {
	s := newServer(logger)
	defer s.close()
	var current []byte
	var complaint string
	for {
		next, err := load(path)
		if err == nil && !bytes.Equal(next.raw, current) {
			if err = s.apply(next); err == nil {
				state := "STATUS=" + Status(next.text, next.ca)
				if current == nil {
					state = "READY=1\n" + state
				}
				notify(state, logger)
				current = next.raw
			}
		}
		switch {
		case err == nil:
			complaint = ""
		case err.Error() != complaint: // once is enough
			complaint = err.Error()
			s.complain(err, current != nil)
		}
		interval := pollInterval
		if current == nil {
			interval = waitInterval
		}
		select {
		case <-ctx.Done():
			notify("STOPPING=1", logger)
			return nil
		case <-time.After(interval):
		}
	}
}

// server is the listeners and the pool behind them.
type server struct {
	log       *slog.Logger
	pool      *pool
	ctx       context.Context // of everything that runs; cancelled when draining is over
	cancel    context.CancelFunc
	stopping  chan struct{} // closed when draining begins
	listeners map[string]net.Listener
	accepts   sync.WaitGroup
	clients   sync.WaitGroup
}

func newServer(logger *slog.Logger) *server {
	ctx, cancel := context.WithCancel(context.Background())
	return &server{
		log: logger, pool: newPool(ctx, logger), ctx: ctx, cancel: cancel,
		stopping: make(chan struct{}), listeners: map[string]net.Listener{},
	}
}

func (s *server) complain(err error, serving bool) {
	switch {
	case serving:
		s.log.Error("the configuration on disk is not usable, going on with the last one", "error", err)
	case errors.Is(err, fs.ErrNotExist):
		s.log.Info("waiting for the configuration", "error", err)
	default:
		s.log.Error("waiting for a usable configuration", "error", err)
	}
}

// apply activates a configuration, or returns an error and changes nothing.
func (s *server) apply(next settings) error {
	fresh := map[string]net.Listener{}
	for _, address := range next.Listen {
		if s.listeners[address] != nil {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range fresh {
				_ = l.Close()
			}
			return fmt.Errorf("listen for clients: %w", err)
		}
		fresh[address] = listener
	}
	s.pool.configure(next.Backends, next.roots)
	for address, listener := range s.listeners {
		if !slices.Contains(next.Listen, address) {
			_ = listener.Close()
			delete(s.listeners, address)
		}
	}
	maps.Copy(s.listeners, fresh)
	for _, listener := range fresh {
		s.accepts.Go(func() { s.accept(listener) })
	}
	s.log.Info("configured", "listen", next.Listen, "backends", next.Backends)
	return nil
}

// accept serves one listener until it is closed.
func (s *server) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err == nil {
			s.clients.Go(func() { s.serve(client.(*net.TCPConn)) })
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Most likely out of file descriptors, which pass as connections end: there is nothing to
		// wait for but time.
		s.log.Error("accept a client", "error", err)
		select {
		case <-s.stopping:
			return
		case <-time.After(waitInterval):
		}
	}
}

func (s *server) serve(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	keepAlive(client)
	l, err := s.pool.connect(s.ctx, s.stopping, client)
	if err != nil {
		s.log.Warn("no API server for a client", "client", client.RemoteAddr(), "error", err)
		return
	}
	defer l.close()
	l.forward()
}

// close stops listening, lets connections end for drainTime, and then ends them.
func (s *server) close() {
	close(s.stopping)
	for _, listener := range s.listeners {
		_ = listener.Close()
	}
	s.accepts.Wait()
	drained := make(chan struct{})
	go func() { s.clients.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	s.cancel()
	s.pool.close()
	<-drained
}
