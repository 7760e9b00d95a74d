package balancer

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

// TestConnectEndsWithContext: draining is over while a client is being connected.
func TestConnectEndsWithContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	p := newPool(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)))
	p.configure([]string{l.Addr().String()}, x509.NewCertPool())
	p.mu.Lock()
	p.backends[0].stop() // no probes
	p.backends[0].health = ready
	p.mu.Unlock()
	p.probes.Wait()
	stopping := make(chan struct{})
	close(stopping)
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := p.connect(ctx, stopping, nil)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("returned %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("connect still goes on after context and stopping have ended")
	}
}
