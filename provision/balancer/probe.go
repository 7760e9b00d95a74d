package balancer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// probeInterval and probeTimeout apply if there is a ready server, seekInterval if there is
	// none: a starting node reaches the first API server at most this long after it is ready. An
	// API server waits 2 s for etcd before it answers that it is not ready, which is different from
	// no answer.
	probeInterval = time.Second
	probeTimeout  = 2500 * time.Millisecond
	seekInterval  = 200 * time.Millisecond
)

// health is the health of a server. The zero value means unknown.
type health int

const (
	unknown  health = iota
	ready           // according to /readyz
	slow            // /readyz gave no answer in time, and the last answer was that it is ready
	unjudged        // it serves TLS, but the probe cannot tell: certificate not verified, or no answer for anonymous clients
	notReady        // according to /readyz, or it did not answer in time and has not been ready since it started
	down            // cannot be reached
)

func (h health) String() string {
	return [...]string{"unknown", "ready", "slow", "not judged", "not ready", "down"}[h]
}

// errForbidden means that a server forbids /readyz for anonymous clients, or has not loaded its
// RBAC rules yet.
var errForbidden = errors.New("GET /readyz: 403 Forbidden")

// newTransport speaks HTTP/1.1 and keeps one connection to each server, so that probes cost no
// handshakes. It calls lost with the server's address if the other side closes that connection, as
// an ending process does.
func newTransport(roots *x509.CertPool, lost func(address string, why error)) *http.Transport {
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: probeTimeout},
		Config:    &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &probeConn{Conn: conn.(*tls.Conn), lost: func(why error) { lost(address, why) }}, nil
		},
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     10 * probeInterval,
	}
}

// probeConn is a probe's connection. The transport reads from it all the time, also between probes.
type probeConn struct {
	*tls.Conn
	closed atomic.Bool // from this side
	lost   func(why error)
}

func (c *probeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.closed.Load() {
		c.lost(err)
	}
	return n, err
}

func (c *probeConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// lost marks a server whose connection broke as possibly restarting, until a probe finds it ready.
func (p *pool) lost(address string, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.backends {
		if b.address == address && (b.health == ready || b.health == slow) {
			b.proven = time.Time{}
			p.set(b, notReady, fmt.Errorf("lost the connection: %w", why))
			b.probeNow()
		}
	}
}

// watch probes a server until ctx is cancelled.
func (p *pool) watch(ctx context.Context, b *backend) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.kick:
		case <-timer.C:
		}
		p.mu.Lock()
		transport := p.transport
		p.mu.Unlock()
		found, err := probe(ctx, transport, b.address)
		if ctx.Err() != nil {
			return
		}
		timer.Reset(p.learn(b, found, err))
	}
}

// learn records the result of a probe and returns when to probe again.
func (p *pool) learn(b *backend, found health, why error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if silent := new(silence); errors.As(why, &silent) {
		found = b.unanswered(silent.accepted)
	} else {
		found = b.answered(found, errors.Is(why, errForbidden))
	}
	p.set(b, found, why)
	if p.anyReady() && b.timeouts != 1 {
		return probeInterval
	}
	return seekInterval
}

// unanswered is the health of a server that gave no answer in time. That it was ready, and that it
// forbids, stays known.
func (b *backend) unanswered(accepted bool) health {
	b.timeouts++
	if accepted {
		b.timeouts = 0
	}
	switch {
	case !accepted && (b.timeouts > 1 || b.health == down): // once may be a lost packet, twice is a dead machine
		b.proven = time.Time{}
		return down
	case b.proven.IsZero():
		return notReady
	}
	return slow
}

// answered is the health of a server that was found to be so.
func (b *backend) answered(found health, forbidden bool) health {
	b.timeouts, b.proven = 0, time.Time{}
	switch {
	case found == ready:
		b.proven, b.forbids = time.Now(), time.Time{}
	case !forbidden:
		b.forbids = time.Time{}
	case b.forbids.IsZero():
		b.forbids = time.Now()
	}
	if forbidden && time.Since(b.forbids) < startTime {
		return notReady
	}
	return found
}

// probe checks whether a server is ready. The error says why it is not.
func probe(ctx context.Context, transport *http.Transport, address string) (health, error) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var accepted atomic.Bool // the transport continues to dial after the request has ended
	var shown tls.ConnectionState
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) { accepted.Store(err == nil) },
		GotConn:     func(info httptrace.GotConnInfo) { shown = info.Conn.(*probeConn).ConnectionState() },
	})
	request, err := http.NewRequestWithContext(traced, http.MethodGet, "https://"+address+"/readyz", nil)
	if err != nil {
		return down, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return judge(limited, accepted.Load(), err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<10)) // read to its end, so that the connection is kept
	if err != nil {
		return judge(limited, accepted.Load(), err)
	}
	// The connection lasts longer than a certificate may; new clients look at that.
	if err := expired(shown); err != nil {
		transport.CloseIdleConnections() // the server may have another one by now
		return unjudged, err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return ready, nil
	case http.StatusForbidden:
		return unjudged, errForbidden
	case http.StatusUnauthorized, http.StatusNotFound:
		return unjudged, fmt.Errorf("GET /readyz: %s", response.Status)
	}
	return notReady, fmt.Errorf("GET /readyz: %s: %s", response.Status, failedChecks(string(body)))
}

// expired returns the error of a new connection if the server's verified certificates have expired
// since.
func expired(shown tls.ConnectionState) error {
	for _, cert := range shown.VerifiedChains[0] {
		if time.Now().After(cert.NotAfter) {
			return &tls.CertificateVerificationError{
				UnverifiedCertificates: shown.PeerCertificates, Err: x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired},
			}
		}
	}
	return nil
}

func judge(limited context.Context, accepted bool, err error) (health, error) {
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		return unjudged, err
	case limited.Err() != nil, timedOut(err):
		return notReady, &silence{accepted}
	}
	return down, err
}

// silence is a probe without an answer in time. If the machine accepted a new connection meanwhile,
// it is alive and its server is slow or stuck: closing its clients' connections would make their
// requests fail needlessly.
type silence struct{ accepted bool }

func (s *silence) Error() string {
	if s.accepted {
		return fmt.Sprintf("GET /readyz: connected, and no answer within %v", probeTimeout)
	}
	return fmt.Sprintf("GET /readyz: no answer within %v", probeTimeout)
}

func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// failedChecks keeps of /readyz's listing the lines that begin with "[-]", for the log.
func failedChecks(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			name, _, _ = strings.Cut(name, " ")
			failed = append(failed, name)
		}
	}
	return strings.Join(failed, ", ")
}
