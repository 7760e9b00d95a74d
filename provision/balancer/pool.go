package balancer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// holdTime is how long a client waits for a server to become ready. client-go's timeout for a
	// TLS handshake is 10 s, and the attempts after the hold need some of that.
	holdTime = 5 * time.Second
	// dialTimeout leaves room for one lost SYN (sent again after 1 s).
	dialTimeout = 1500 * time.Millisecond
	// grace is how long a server that is no longer ready, or slow, keeps its connections. During
	// that time a slow one gets new connections if no other is ready.
	grace = 30 * time.Second
	// startTime is how long a server that forbids /readyz counts as starting: it has not loaded its
	// RBAC rules, and would forbid every request.
	startTime = 30 * time.Second
)

// pool has the API servers and their health.
type pool struct {
	ctx    context.Context
	log    *slog.Logger
	probes sync.WaitGroup

	mu        sync.Mutex
	backends  []*backend // in the configuration's order
	transport *http.Transport
	changed   chan struct{} // closed and replaced at every change of a health; held clients wait for it
}

// backend is one API server. The pool's mutex guards everything except the address.
type backend struct {
	address string
	stop    context.CancelFunc
	kick    chan struct{} // asks for a probe now

	health   health
	since    time.Time // of health
	timeouts int       // probes in a row that had no answer in time
	proven   time.Time // when it was last found to be ready; zero if it has been found otherwise since
	forbids  time.Time // since when it forbids /readyz; zero if it does not
	active   int       // connections open and being opened
	links    map[*link]struct{}
	removed  bool
}

func newPool(ctx context.Context, logger *slog.Logger) *pool {
	return &pool{ctx: ctx, log: logger, changed: make(chan struct{})}
}

// configure sets the servers and the CA. Servers that stay keep their health and connections; those
// that leave lose both.
func (p *pool) configure(addresses []string, roots *x509.CertPool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.transport != nil {
		p.transport.CloseIdleConnections()
	}
	p.transport = newTransport(roots, p.lost)
	known := map[string]*backend{}
	for _, b := range p.backends {
		if slices.Contains(addresses, b.address) {
			known[b.address] = b
			b.probeNow()
			continue
		}
		b.stop()
		b.removed = true
		b.cut()
	}
	p.backends = make([]*backend, 0, len(addresses))
	for _, address := range addresses {
		b := known[address]
		if b == nil {
			b = p.add(address)
		}
		p.backends = append(p.backends, b)
	}
	p.announce()
}

func (p *pool) add(address string) *backend {
	ctx, stop := context.WithCancel(p.ctx)
	b := &backend{
		address: address, stop: stop, kick: make(chan struct{}, 1),
		since: time.Now(), links: map[*link]struct{}{},
	}
	p.probes.Go(func() { p.watch(ctx, b) })
	return b
}

// close ends the probes and every connection. The context is already cancelled.
func (p *pool) close() {
	p.probes.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.backends {
		b.stop()
		b.removed = true
		b.cut()
	}
	if p.transport != nil {
		p.transport.CloseIdleConnections()
	}
}

// connect finds a server for the client and opens a connection to it. It gives up when stopping is
// closed, and at once when ctx ends.
func (p *pool) connect(ctx context.Context, stopping <-chan struct{}, client *net.TCPConn) (*link, error) {
	hold := time.NewTimer(holdTime)
	defer hold.Stop()
	for {
		b, changed := p.pick()
		if b != nil {
			if l, err := p.dial(ctx, b, client); err == nil {
				return l, nil
			}
			if ctx.Err() != nil { // dial marked nothing, so this would loop forever
				return nil, context.Cause(ctx)
			}
			continue // dial marked it, so that another is picked
		}
		select {
		case <-changed:
		case <-hold.C:
			return p.failOpen(ctx, client)
		case <-stopping:
			return nil, errors.New("shutting down")
		}
	}
}

// failOpen tries every server, whatever its health: the best first.
func (p *pool) failOpen(ctx context.Context, client *net.TCPConn) (*link, error) {
	p.mu.Lock()
	backends := p.ranked()
	for _, b := range backends {
		b.active++
	}
	p.mu.Unlock()
	var errs []error
	var found *link
	for _, b := range backends {
		if found != nil {
			p.release(b)
			continue
		}
		l, err := p.dial(ctx, b, client)
		found = l
		errs = append(errs, err)
	}
	if found == nil {
		return nil, fmt.Errorf("none is ready, and all were tried: %w", errors.Join(errs...))
	}
	return found, nil
}

// pick reserves a connection on the best server, or returns the channel that is closed when things
// have changed.
func (p *pool) pick() (*backend, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, usable := range []func(*backend) bool{
		func(b *backend) bool { return b.health == ready },
		func(b *backend) bool { return b.health == slow && time.Since(b.proven) < grace },
		func(b *backend) bool { return b.health == unjudged },
	} {
		var best *backend
		ties := 0
		for _, b := range p.backends {
			switch {
			case !usable(b) || best != nil && b.active > best.active:
			case best == nil || b.active < best.active:
				best, ties = b, 1
			default: // as good: each gets its chance, so that the nodes of a cluster do not all begin with the first
				ties++
				if rand.IntN(ties) == 0 { // #nosec G404 -- spreads load, guards nothing
					best = b
				}
			}
		}
		if best != nil {
			best.active++
			return best, nil
		}
	}
	return nil, p.changed
}

// ranked is the servers, the best first, and else in the configuration's order. The mutex is held.
func (p *pool) ranked() []*backend {
	order := []health{ready, slow, unjudged, unknown, notReady, down}
	rank := func(b *backend) int {
		switch last := 10 * slices.Index(order, down); {
		case b.health == slow && time.Since(b.proven) >= grace: // it takes connections, and does not answer
			return last - 2
		case b.health == notReady && !b.forbids.IsZero(): // it refuses everything, until it is ready in a moment
			return last - 1
		}
		return 10 * slices.Index(order, b.health)
	}
	return slices.SortedStableFunc(slices.Values(p.backends), func(a, b *backend) int { return rank(a) - rank(b) })
}

func (p *pool) release(b *backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.active--
}

// dial opens the connection that pick reserved. A failure is the newest thing known about the
// server's health.
func (p *pool) dial(ctx context.Context, b *backend, client *net.TCPConn) (*link, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", b.address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && b.removed {
		_ = conn.Close()
		err = fmt.Errorf("%s is not a backend any more", b.address)
	}
	if err != nil {
		b.active--
		if ctx.Err() == nil {
			to := notReady // perhaps only slow: the probe that follows decides about existing connections
			if !timedOut(err) {
				to, b.proven = down, time.Time{}
			}
			p.set(b, to, err)
			p.transport.CloseIdleConnections() // so that the next probe has to connect again
			b.probeNow()
		}
		return nil, err
	}
	keepAlive(conn.(*net.TCPConn))
	l := &link{pool: p, backend: b, client: client, server: conn.(*net.TCPConn)}
	b.links[l] = struct{}{}
	return l, nil
}

// set records a health and draws the consequences. The mutex is held.
func (p *pool) set(b *backend, to health, why error) {
	if b.removed {
		return
	}
	if b.health != to {
		attributes := []any{"backend", b.address, "was", b.health.String(), "connections", len(b.links)}
		if why != nil {
			attributes = append(attributes, "why", why)
		}
		p.log.Info("API server is "+to.String(), attributes...)
		lost := b.health == ready
		b.health, b.since = to, time.Now()
		p.announce()
		if lost && !p.anyReady() {
			for _, other := range p.backends {
				other.probeNow()
			}
		}
	}
	if !p.anyReady() {
		return // nowhere better to go
	}
	for _, other := range p.backends {
		if other.health == down || (other.health == notReady || other.health == slow) && time.Since(other.since) > grace {
			other.cut()
		}
	}
}

func (p *pool) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pool) anyReady() bool {
	return slices.ContainsFunc(p.backends, func(b *backend) bool { return b.health == ready })
}

func (b *backend) probeNow() {
	select {
	case b.kick <- struct{}{}:
	default: // one is already requested
	}
}

// cut ends every connection to the server. Each is removed by the goroutine that forwards it.
func (b *backend) cut() {
	for l := range b.links {
		_ = l.client.Close()
		_ = l.server.Close()
	}
}
