package host

import (
	"net"
	"sync"
)

// gatherLimit is how many bytes may wait to be sent before Write waits too.
const gatherLimit = 256 << 10

// gathered is a connection that many goroutines write to. A Write returns at once, and what comes
// together while the connection is busy is sent with one write: x/crypto/ssh writes each packet by
// itself, and at a bastion that carries the connections of a thousand hosts each costs it, and
// the next bastion, a packet of its own. An error is returned by a later Write. Close discards what
// was not sent.
type gathered struct {
	net.Conn
	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte
	err     error
}

func newGathered(conn net.Conn) *gathered {
	g := &gathered{Conn: conn}
	g.changed = sync.NewCond(&g.mu)
	go g.send()
	return g
}

// Write keeps a copy of p to be sent.
func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && len(g.waiting) >= gatherLimit {
		g.changed.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	g.waiting = append(g.waiting, p...)
	g.changed.Broadcast()
	return len(p), nil
}

// Close ends the connection, and what waits for it.
func (g *gathered) Close() error {
	g.end(net.ErrClosed)
	return g.Conn.Close()
}

func (g *gathered) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.waiting = nil
	g.changed.Broadcast()
}

// send writes what waits, until the connection ends.
func (g *gathered) send() {
	var sent []byte // the two buffers take turns
	for {
		g.mu.Lock()
		for g.err == nil && len(g.waiting) == 0 {
			g.changed.Wait()
		}
		if g.err != nil {
			g.mu.Unlock()
			return
		}
		sent, g.waiting = g.waiting, sent[:0]
		g.changed.Broadcast()
		g.mu.Unlock()
		if _, err := g.Conn.Write(sent); err != nil {
			g.end(err)
			return
		}
	}
}
