package hosttest

import (
	"bytes"
	"cmp"
	"io"
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

// far is a connection, as a server sees it, with half a round trip of distance in each direction. What is on its way
// does not hold up what follows.
type far struct {
	net.Conn
	half    time.Duration
	in, out chan packet
	rest    []byte // of a packet that has arrived
	ended   chan struct{}
	ending  sync.Once
	trips   *trips
}

// packet is on its way until due.
type packet struct {
	due   time.Time
	data  []byte
	round int
}

// inFlight is how many packets may be on their way in one direction, unless Options say so.
const inFlight = 64

func (s *SSHD) far(near net.Conn, count *trips) *far {
	n := cmp.Or(s.options.InFlight, inFlight)
	f := &far{
		Conn: near, half: s.options.Latency / 2, trips: count,
		in: make(chan packet, n), out: make(chan packet, n), ended: make(chan struct{}),
	}
	s.serving.Go(f.receive)
	s.serving.Go(f.send)
	return f
}

// receive takes what the client sends as soon as it does, and lets it travel.
func (f *far) receive() {
	defer close(f.in)
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Conn.Read(buf)
		if n > 0 {
			select {
			case f.in <- packet{time.Now().Add(f.half), bytes.Clone(buf[:n]), f.trips.sent()}:
			case <-f.ended:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (f *far) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		arriving, ok := <-f.in
		if !ok {
			return 0, io.EOF
		}
		time.Sleep(time.Until(arriving.due)) // the distance itself, not a wait for something
		f.trips.arrived(arriving.round)
		f.rest = arriving.data
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *far) Write(p []byte) (int, error) {
	select {
	case f.out <- packet{time.Now().Add(f.half), bytes.Clone(p), f.trips.answered()}:
		return len(p), nil
	case <-f.ended:
		return 0, net.ErrClosed
	}
}

// most is how many bytes are written at once.
const most = 64 << 10

// send hands to the client what has travelled, all that has arrived at once, as sshd does. After Close that is all that was on
// its way then, and the end.
func (f *far) send() {
	defer func() { _ = f.Conn.Close() }()
	p, ok := f.next(true)
	for ok {
		time.Sleep(time.Until(p.due))
		now, data := time.Now(), p.data
		f.trips.seen(p.round)
		for p, ok = f.next(false); ok && !p.due.After(now) && len(data) < most; p, ok = f.next(false) {
			data = append(data, p.data...)
			f.trips.seen(p.round)
		}
		if _, err := f.Conn.Write(data); err != nil {
			return
		}
		if !ok {
			p, ok = f.next(true)
		}
	}
}

// next returns the next packet that is on its way to the client. Without one it waits, if it is to, until there is one or the end.
func (f *far) next(wait bool) (p packet, ok bool) {
	select {
	case p = <-f.out:
		return p, true
	default:
	}
	if !wait {
		return p, false
	}
	select {
	case p = <-f.out:
		return p, true
	case <-f.ended:
		return f.next(false)
	}
}

func (f *far) Close() error {
	f.ending.Do(func() { close(f.ended) })
	return nil
}

// trips counts the round trips of a connection, as a logical clock does: what the client sends belongs to the round
// after the latest one that it has received something of, what the server sends to the latest that it has.
type trips struct {
	mu             sync.Mutex
	client, server int // the latest rounds that each has received something of
	waited         int // the latest that the server could not answer without
	before         int // rounds until the count began
}

// wait says that the server has needed what has arrived.
func (t *trips) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waited = max(t.waited, t.server)
}

// waiting is input that the server cannot answer without.
type waiting struct {
	io.Reader
	trips *trips
}

func (w waiting) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.trips.wait()
	return n, err
}

func (t *trips) sent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.client + 1
}

func (t *trips) arrived(round int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server = max(t.server, round)
}

func (t *trips) answered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server
}

func (t *trips) seen(round int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.client = max(t.client, round)
}

// begin forgets what has been.
func (t *trips) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before, t.waited = t.server, t.server
}

// ignore forgets that something has arrived that nobody waits for.
func (t *trips) ignore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server = t.waited
}

// total is how many rounds the server has waited for.
func (t *trips) total() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waited - t.before
}
