package balancer

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNotReadyKeepsConnections(t *testing.T) {
	ca := newTestCA(t)
	a, b := startBackend(t, ca, "a"), startBackend(t, ca, "b")
	r := start(t, ca, a, b)
	eventually(t, "all ready", r.logged(`"API server is ready"`, 2))
	var watch *client
	for watch == nil || watch.server != "a" {
		watch = mustDial(t, r.listen)
	}
	a.status.Store(http.StatusInternalServerError)
	eventually(t, "not ready", r.logged(`"API server is not ready" backend=`+a.address, 1))
	if count := servers(t, r.listen, 4); count["b"] != 4 {
		t.Errorf("new connections went to %v", count)
	}
	if err := watch.echo("still there?"); err != nil {
		t.Errorf("the existing connection was cut: %v", err)
	}
	if !strings.Contains(r.logs.String(), "500 Internal Server Error: etcd") {
		t.Error("the log does not name the failed check")
	}
}

// A server that is slow on a machine that lives keeps its clients, whose requests it may still answer.
func TestSlowServerKeepsConnections(t *testing.T) {
	ca := newTestCA(t)
	a, b := startBackend(t, ca, "a"), startBackend(t, ca, "b")
	r := start(t, ca, a, b)
	eventually(t, "all ready", r.logged(`"API server is ready"`, 2))
	var watch *client
	for watch == nil || watch.server != "a" {
		watch = mustDial(t, r.listen)
	}
	a.status.Store(0)
	probes := a.probes.Load()
	eventually(t, "slow", r.logged(`"API server is slow" backend=`+a.address, 1))
	eventually(t, "three probes in vain", func() string {
		if n := a.probes.Load() - probes; n < 3 {
			return fmt.Sprintf("%d probes", n)
		}
		return ""
	})
	if count := servers(t, r.listen, 4); count["b"] != 4 {
		t.Errorf("new connections went to %v", count)
	}
	if err := watch.echo("still there?"); err != nil {
		t.Errorf("the existing connection was cut: %v", err)
	}
}

// What probes find decides who gets new clients, whether a machine is taken for dead, and with it the fate of its clients.
func TestLearn(t *testing.T) {
	type finding struct {
		found health
		why   error
	}
	var (
		silent    = finding{notReady, &silence{}}
		late      = finding{notReady, &silence{accepted: true}}
		yes       = finding{ready, nil}
		no        = finding{notReady, errors.New("500")}
		refused   = finding{down, errors.New("connection refused")}
		forbidden = finding{unjudged, errForbidden}
		nobody    = finding{unjudged, errors.New("401")}
	)
	tests := []struct {
		name  string
		found []finding
		want  health
	}{
		{"one lost packet", []finding{silent}, slow},
		{"a dead machine", []finding{silent, silent}, down},
		{"a slow server", []finding{late, late, late}, slow},
		{"slow, then dead", []finding{late, silent, silent}, down},
		{"slow after a restart", []finding{refused, late}, notReady},
		{"slow after a refusal to be ready", []finding{no, silent}, notReady},
		{"silence, then a refusal to be ready", []finding{silent, no, silent}, notReady},
		{"slow after everything was forbidden", []finding{forbidden, late, forbidden}, notReady},
		{"ready again, then slow", []finding{refused, forbidden, yes, late}, slow},
		{"starting", []finding{refused, forbidden}, notReady},
		{"nobody may ask", []finding{nobody}, unjudged},
		{"slow where nobody may ask", []finding{nobody, late}, notReady},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, b := poolOfOne(t)
			p.learn(b, ready, nil)
			for _, f := range tt.found {
				p.learn(b, f.found, f.why)
			}
			if b.health != tt.want {
				t.Errorf("the server is %v, want %v", b.health, tt.want)
			}
		})
	}
}

// A server that goes on forbidding does not start: it tells nobody whether it is ready.
func TestForbiddenForLong(t *testing.T) {
	p, b := poolOfOne(t)
	p.learn(b, unjudged, errForbidden)
	if b.health != notReady {
		t.Errorf("at first the server is %v, want %v", b.health, notReady)
	}
	b.forbids = b.forbids.Add(-startTime)
	p.learn(b, unjudged, errForbidden)
	if b.health != unjudged {
		t.Errorf("after %v the server is %v, want %v", startTime, b.health, unjudged)
	}
	p.learn(b, down, errors.New("connection refused"))
	p.learn(b, unjudged, errForbidden)
	if b.health != notReady {
		t.Errorf("started again, the server is %v, want %v", b.health, notReady)
	}
}

func poolOfOne(t *testing.T) (*pool, *backend) {
	t.Helper()
	p := newPool(t.Context(), slog.New(slog.DiscardHandler))
	b := &backend{address: "a", kick: make(chan struct{}, 1), links: map[*link]struct{}{}}
	p.backends = []*backend{b}
	return p, b
}

func TestProbeIntervals(t *testing.T) {
	ca := newTestCA(t)
	b := startBackend(t, ca, "b")
	r := start(t, ca, b)
	eventually(t, "ready", r.logged(`"API server is ready"`, 1))
	before := b.probes.Load()
	time.Sleep(2 * time.Second) // what is measured is time
	if n := b.probes.Load() - before; n < 1 || n > 3 {
		t.Errorf("%d probes in 2 s while ready, want about 2", n)
	}
}

// TestExpiredServer has a server whose certificate ends while the probe is connected.
func TestExpiredServer(t *testing.T) {
	ca := newTestCA(t)
	b := newTestBackend(t, ca, "a")
	end := time.Now().Add(2 * time.Second).Truncate(time.Second) // a certificate tells whole seconds
	b.cert = ca.until(t, end)
	b.start(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	transport := newTransport(roots, func(string, error) {})
	defer transport.CloseIdleConnections()
	if found, err := probe(t.Context(), transport, b.address); found != ready {
		t.Fatalf("before its end: %v, %v", found, err)
	}
	time.Sleep(time.Until(end) + time.Millisecond)
	for _, when := range []string{"on the connection that is open", "on a new one"} {
		found, err := probe(t.Context(), transport, b.address)
		if found != unjudged || err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: %v, %v", when, found, err)
		}
	}
}

// A server that has answered nothing for an hour takes connections still, as a stopped process does. When no server is ready
// a client gets to one that answers, if only that some check of /readyz fails.
func TestFailOpenPrefersWhoAnswers(t *testing.T) {
	p := newPool(t.Context(), slog.New(slog.DiscardHandler))
	hour := time.Now().Add(-time.Hour)
	hangs := &backend{address: "a", health: slow, since: hour, proven: hour}
	answers := &backend{address: "b", health: notReady, since: hour}
	p.backends = []*backend{hangs, answers}
	if b, _ := p.pick(); b != nil {
		t.Fatalf("%s is picked", b.address)
	}
	if first := p.ranked()[0]; first != answers {
		t.Errorf("every client is given to %s, which is %s since an hour", first.address, first.health)
	}
}
