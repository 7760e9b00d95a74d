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
	// probeInterval and probeTimeout are for when there is a ready server, seekInterval for when there is none: a node
	// that starts reaches the first API server this much after it is ready, at most.
	probeInterval = time.Second
	probeTimeout  = 2 * time.Second
	seekInterval  = 200 * time.Millisecond
)

// health is what is known about a server. The zero value is not knowing anything yet.
type health int

const (
	unknown  health = iota
	ready           // /readyz says so
	unjudged        // it serves TLS, but the probe cannot tell: certificate not verified, or no answer for anonymous clients
	notReady        // /readyz says no, or gave no answer in time
	down            // cannot be reached
)

func (h health) String() string {
	return [...]string{"unknown", "ready", "not judged", "not ready", "down"}[h]
}

// newTransport speaks HTTP/1.1 and keeps one connection to each server, so that probes cost no handshakes.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: probeTimeout}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     10 * probeInterval,
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

// learn records a probe's finding and says when to probe again.
func (p *pool) learn(b *backend, found health, why error) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var silent *silence
	if errors.As(why, &silent) && !silent.accepted {
		b.timeouts++
		if b.timeouts > 1 || b.health == down {
			found = down // once may be a lost packet, twice is a dead machine
		}
	} else {
		b.timeouts = 0
	}
	p.set(b, found, why)
	if p.anyReady() && b.timeouts != 1 {
		return probeInterval
	}
	return seekInterval
}

// probe asks a server whether it is ready. The error says why it is not.
func probe(ctx context.Context, transport *http.Transport, address string) (health, error) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var accepted atomic.Bool // the transport goes on dialing when the request has ended
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) { accepted.Store(err == nil) },
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
	if err := expired(response.TLS); err != nil {
		transport.CloseIdleConnections() // the server may have another one by now
		return unjudged, err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return ready, nil
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return unjudged, fmt.Errorf("GET /readyz: %s", response.Status)
	}
	return notReady, fmt.Errorf("GET /readyz: %s: %s", response.Status, failedChecks(string(body)))
}

// expired says what a new connection would fail with since the server's certificates were verified.
func expired(shown *tls.ConnectionState) error {
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

// silence is a probe that had no answer in time. Where the machine accepted a new connection meanwhile it lives, and
// its server is slow or stuck: to cut off the clients that it still serves would make their requests fail for nothing.
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
