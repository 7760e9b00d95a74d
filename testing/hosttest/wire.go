package hosttest

import (
	"net"
	"sync"
	"time"
)

// gate is a connection that can stop passing anything.
type gate struct {
	net.Conn
	frozen, closed chan struct{}
	once, ending   sync.Once
}

func newGate(c net.Conn) *gate {
	return &gate{Conn: c, frozen: make(chan struct{}), closed: make(chan struct{})}
}

func (g *gate) freeze() { g.once.Do(func() { close(g.frozen) }) }

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.wait()
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	g.wait()
	return g.Conn.Write(p)
}

// wait returns at once unless the gate is frozen: then only when it is closed.
func (g *gate) wait() {
	select {
	case <-g.frozen:
		<-g.closed
	default:
	}
}

func (g *gate) Close() error {
	g.ending.Do(func() { close(g.closed) })
	return g.Conn.Close()
}

// far puts half a round trip of distance on each direction of a connection.
func (s *SSHD) far(near net.Conn) net.Conn {
	server, pipe := net.Pipe()
	s.serving.Go(func() { s.delay(pipe, near) })
	s.serving.Go(func() { s.delay(near, pipe) })
	return server
}

func (s *SSHD) delay(to, from net.Conn) {
	type packet struct {
		due  time.Time
		data []byte
	}
	flying := make(chan packet, 1024)
	s.serving.Go(func() {
		defer close(flying)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			flying <- packet{time.Now().Add(s.options.Latency / 2), buf[:n]}
			if err != nil {
				return
			}
		}
	})
	for p := range flying {
		time.Sleep(time.Until(p.due)) // the distance itself, not a wait for something
		if _, err := to.Write(p.data); err != nil {
			_ = from.Close()
		}
	}
	_ = to.Close()
}
