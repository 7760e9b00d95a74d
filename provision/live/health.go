package live

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
)

const (
	healthInterval = 50 * time.Millisecond
	healthAttempt  = 2 * time.Second
)

// HealthClient returns a client for a host's loopback interface, through its connection. TLS is
// verified with ca. done closes idle connections.
func HealthClient(h host.Dialer, ca []byte) (client *http.Client, done func(), err error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, errors.New("ask for health: the Kubernetes CA is not PEM")
	}
	transport := &http.Transport{DialContext: h.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	return &http.Client{Transport: transport, Timeout: healthAttempt}, transport.CloseIdleConnections, nil
}

// WaitFor repeats a check until it returns no error. It ends with ctx; its error then has the
// condition and the last failure.
func WaitFor(ctx context.Context, problem string, ask func(context.Context) error) error {
	return WaitEvery(ctx, healthInterval, problem, ask)
}

// WaitEvery is WaitFor for checks that should not run as often.
func WaitEvery(ctx context.Context, interval time.Duration, problem string, ask func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // the error of ctx itself adds nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last seen: %w", problem, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// UnhealthyError is an answer of a health endpoint other than 200.
type UnhealthyError struct {
	URL, Status string
	// Said is the text of the answer, at most 64 KiB of it.
	Said string
}

func (e *UnhealthyError) Error() string {
	const shown = 200
	return fmt.Sprintf("%s: %s %s", e.URL, e.Status, strings.TrimSpace(e.Said[:min(len(e.Said), shown)]))
}

// Healthy queries a health endpoint once; nil is an answer of 200. Another answer is an
// *UnhealthyError.
func Healthy(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // the status is enough
	return &UnhealthyError{URL: url, Status: response.Status, Said: string(said)}
}
