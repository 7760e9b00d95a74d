package host

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// counted is a connection that counts writes, and holds each until it may go on.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes int
	sent   bytes.Buffer
	begun  chan struct{}
	goOn   chan error
}

func (c *counted) Write(p []byte) (int, error) {
	c.begun <- struct{}{}
	if err := <-c.goOn; err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	c.sent.Write(p)
	return len(p), nil
}

func (c *counted) Close() error { return nil }

func newCounted() *counted {
	return &counted{begun: make(chan struct{}, 8), goOn: make(chan error)}
}

// TestGatheredWrites: what is written while the connection is busy is sent in order, with one write.
func TestGatheredWrites(t *testing.T) {
	under := newCounted()
	g := newGathered(under)
	write := func(text string) {
		t.Helper()
		p := []byte(text)
		if n, err := g.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		clear(p) // it belongs to who wrote
	}
	write("a")
	<-under.begun
	for _, text := range []string{"b", "c", "d"} {
		write(text)
	}
	under.goOn <- nil
	<-under.begun
	under.goOn <- nil
	write("e")
	<-under.begun
	under.goOn <- nil
	write("f")
	<-under.begun // the write of e has ended
	under.mu.Lock()
	defer under.mu.Unlock()
	if under.writes != 3 || under.sent.String() != "abcde" {
		t.Errorf("%d writes sent %q", under.writes, under.sent.String())
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	under.goOn <- net.ErrClosed
}

// TestGatheredErrors: who writes learns that the connection has failed, or was closed, and does not wait for ever.
func TestGatheredErrors(t *testing.T) {
	under, broken := newCounted(), errors.New("broken")
	g := newGathered(under)
	full := make([]byte, gatherLimit)
	for range 2 { // one is being sent, one waits
		if _, err := g.Write(full); err != nil {
			t.Fatal(err)
		}
		if len(under.begun) == 0 {
			<-under.begun
			under.begun <- struct{}{}
		}
	}
	blocked := make(chan error, 1)
	go func() {
		_, err := g.Write([]byte("late"))
		blocked <- err
	}()
	under.goOn <- broken
	if err := <-blocked; !errors.Is(err, broken) {
		t.Errorf("who waited for room got %v", err)
	}
	if _, err := g.Write([]byte("later")); !errors.Is(err, broken) {
		t.Errorf("a later write got %v", err)
	}
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	g = newGathered(near)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close a write got %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other end reads %v", err)
	}
}
