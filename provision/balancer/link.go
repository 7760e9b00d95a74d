package balancer

import (
	"io"
	"net"
	"sync"
	"time"
)

// link is a client's connection and the connection to its server.
type link struct {
	pool           *pool
	backend        *backend
	client, server *net.TCPConn
}

// forward copies both ways until both have ended. The end of one way is passed on as the end of
// that way only.
func (l *link) forward() {
	var ways sync.WaitGroup
	ways.Go(func() { l.copy(l.server, l.client) })
	ways.Go(func() { l.copy(l.client, l.server) })
	ways.Wait()
}

// copy uses the kernel (splice) if possible. If one direction breaks, both end.
func (l *link) copy(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err == nil && to.CloseWrite() == nil {
		return
	}
	_ = l.client.Close()
	_ = l.server.Close()
}

func (l *link) close() {
	_ = l.server.Close()
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	delete(l.backend.links, l)
	l.backend.active--
}

// keepAlive finds out within half a minute that the other machine is gone.
func keepAlive(conn *net.TCPConn) {
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
}
