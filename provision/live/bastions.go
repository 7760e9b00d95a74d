package live

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// bastions are the connections to bastions, by the way there. Who needs one that another is dialing
// waits for that dial.
type bastions struct {
	mu   sync.Mutex
	open map[string]*bastion
}

// bastion is a connection, or the dial for one.
type bastion struct {
	ready   chan struct{} // closed when the dial has ended
	conn    *host.SSH
	err     error
	key     string
	waiting int // who would use the dial; it is cancelled when they have all gone
	cancel  context.CancelFunc
}

// bastion returns the connection to the last bastion of a way. An error is a *host.JumpError, or
// that of ctx.
func (s *SSH) bastion(ctx context.Context, way []spec.SSH) (*host.SSH, error) {
	last := way[len(way)-1]
	b := s.bastions.get(wayKey(way), func(b *bastion) {
		var dialCtx context.Context
		// It outlives who was first: others wait for it.
		dialCtx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer close(b.ready)
			c := s.config(host.BastionName(last.Address), last)
			c.Network, c.Carrier = s.network(way[:len(way)-1]), true
			b.conn, b.err = host.Dial(dialCtx, c)
		}()
	})
	defer s.bastions.leave(b)
	select {
	case <-b.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if b.err == nil {
		return b.conn, nil
	}
	failed := &host.JumpError{Hop: len(way), Of: len(way), Address: last.Address, Err: b.err}
	if earlier := new(host.JumpError); errors.As(b.err, &earlier) {
		*failed = *earlier
		failed.Of = len(way)
	}
	return nil, failed
}

// get returns a connection that is neither lost nor failed, or a dial that dial begins.
func (p *bastions) get(key string, dial func(*bastion)) *bastion {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.open[key]
	if b == nil || b.useless() {
		if b != nil && b.conn != nil {
			go b.conn.Close() //nolint:errcheck // it is lost
		}
		if p.open == nil {
			p.open = map[string]*bastion{}
		}
		b = &bastion{ready: make(chan struct{}), key: key}
		dial(b)
		p.open[key] = b
	}
	b.waiting++
	return b
}

// useless reports whether a dial has failed, or its connection is lost.
func (b *bastion) useless() bool {
	select {
	case <-b.ready:
		return b.err != nil || b.conn.Err() != nil
	default:
		return false
	}
}

// leave is called by who no longer waits.
func (p *bastions) leave(b *bastion) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.waiting--
	select {
	case <-b.ready:
	default:
		if b.waiting == 0 {
			b.cancel()
			if p.open[b.key] == b {
				delete(p.open, b.key)
			}
		}
	}
}

func (p *bastions) close() {
	p.mu.Lock()
	open := p.open
	p.open = nil
	p.mu.Unlock()
	for _, b := range open {
		b.cancel()
		if <-b.ready; b.conn != nil {
			_ = b.conn.Close()
		}
	}
}

// wayKey tells ways apart by all that matters for who connects; it contains no secret.
func wayKey(way []spec.SSH) string {
	var key strings.Builder
	for _, w := range way {
		fmt.Fprintf(&key, "%q %q %q %q %q %q %t %t", w.Address, w.User, w.Agent, w.HostKeys, w.KnownHosts, w.HostKeyAlias, w.IdentitiesOnly, w.TrustOnFirstUse)
		for _, id := range w.Identities {
			fmt.Fprintf(&key, " %q %q %x", id.Name, id.Public, sha256.Sum256(id.Private.Reveal()))
		}
		key.WriteString("\n")
	}
	return key.String()
}
