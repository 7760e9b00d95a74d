package host

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// mute is a connection whose host answers no request.
type mute struct {
	ssh.Conn
	asked atomic.Int32
	end   chan struct{}
}

func (m *mute) SendRequest(string, bool, []byte) (bool, []byte, error) {
	m.asked.Add(1)
	<-m.end
	return false, nil, net.ErrClosed
}

// TestSilentHostsAreAsked: a host that sends something is not asked whether it lives, one that is silent is, once, and is given up
// after as long as it may be silent.
func TestSilentHostsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		m := &mute{end: make(chan struct{})}
		s := &connection{config: Config{KeepAlive: time.Second}, link: &link{Client: &ssh.Client{Conn: m}, tcp: &bannerConn{Conn: near}}}
		s.life, s.end = context.WithCancelCause(t.Context())
		s.tending.Go(s.keepAlive)
		for range 20 {
			time.Sleep(900 * time.Millisecond)
			s.link.tcp.count.Add(1)
		}
		if n := m.asked.Load(); n != 0 {
			t.Errorf("it was asked %d times while it sent something", n)
		}
		time.Sleep(5 * time.Second)
		if n := m.asked.Load(); n != 1 || s.err() != nil {
			t.Errorf("silent for 5 s, it was asked %d times, and has ended with %v", n, s.err())
		}
		time.Sleep(5 * time.Second)
		if s.err() == nil {
			t.Error("silent for 10 s, it is not given up")
		}
		close(m.end)
		s.close(net.ErrClosed)
	})
}
