package balancer

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// An API server that has just started forbids everything to everybody, until it has read its RBAC rules. A server that was
// ready and is slow is better.
func TestStartingServerGetsNoClients(t *testing.T) {
	for _, status := range []int32{http.StatusForbidden, http.StatusInternalServerError} {
		t.Run(http.StatusText(int(status)), func(t *testing.T) {
			ca := newTestCA(t)
			a, b := startBackend(t, ca, "a"), startBackend(t, ca, "b")
			r := start(t, ca, a, b)
			eventually(t, "all ready", r.logged(`"API server is ready"`, 2))
			a.stop()
			a.status.Store(status)
			a.start(t)
			eventually(t, "a starts", r.logged(`"API server is not ready" backend=`+a.address, 1))
			b.status.Store(0)
			eventually(t, "b is slow", r.logged(`"API server is slow" backend=`+b.address, 1))
			if count := servers(t, r.listen, 4); count["b"] != 4 {
				t.Errorf("connections went to %v", count)
			}
			a.status.Store(http.StatusOK)
			eventually(t, "a is ready", r.logged(`"API server is ready" backend=`+a.address, 2))
			if count := servers(t, r.listen, 4); count["a"] != 4 {
				t.Errorf("when a was ready, connections went to %v", count)
			}
		})
	}
}

// A server that starts alone gets its client the moment it is ready, and not while it forbids everything.
func TestClientWaitsForStartingServer(t *testing.T) {
	ca := newTestCA(t)
	b := newTestBackend(t, ca, "b")
	b.status.Store(http.StatusForbidden)
	b.start(t)
	r := start(t, ca, b)
	eventually(t, "b starts", r.logged(`"API server is not ready"`, 1))
	reached := make(chan error, 1)
	go func() {
		c, err := dial(r.listen)
		if err == nil {
			_ = c.Close()
		}
		reached <- err
	}()
	probes := b.probes.Load()
	eventually(t, "two more probes", func() string {
		if n := b.probes.Load() - probes; n < 2 {
			return fmt.Sprintf("%d probes", n)
		}
		return ""
	})
	select {
	case err := <-reached:
		t.Fatalf("a client was let through to a server that forbids everything: %v", err)
	default:
	}
	b.status.Store(http.StatusOK)
	if err := <-reached; err != nil {
		t.Error(err)
	}
}

// A process that died takes the probe's connection with it, and that is known at once.
func TestLostConnectionIsNoticed(t *testing.T) {
	ca := newTestCA(t)
	b := startBackend(t, ca, "b")
	r := start(t, ca, b)
	eventually(t, "ready", r.logged(`"API server is ready"`, 1))
	b.status.Store(0)
	b.reset()
	eventually(t, "the loss", r.logged(`"API server is not ready" backend=`+b.address+` was=ready`, 1))
	if !strings.Contains(r.logs.String(), "lost the connection") {
		t.Error("the log does not say why")
	}
	b.status.Store(http.StatusOK)
	eventually(t, "ready again", r.logged(`"API server is ready"`, 2))
}

func TestPick(t *testing.T) {
	at := func(ago time.Duration) time.Time { return time.Now().Add(-ago) }
	tests := []struct {
		name  string
		known map[string]backend
		want  string // nothing: the client is held
		order string // when the hold is over
	}{
		{"ready before all", map[string]backend{"a": {health: unjudged}, "b": {health: slow, proven: at(0)}, "c": {health: ready}}, "c", "c b a"},
		{"slow before not judged", map[string]backend{"a": {health: unjudged}, "b": {health: slow, proven: at(time.Second)}}, "b", "b a"},
		{"not judged before slow for too long", map[string]backend{"a": {health: slow, proven: at(grace)}, "b": {health: unjudged}}, "b", "b a"},
		{"slow for too long", map[string]backend{"a": {health: slow, proven: at(grace)}, "b": {health: notReady}}, "", "b a"},
		{"starting", map[string]backend{"a": {health: down}, "b": {health: notReady, forbids: at(0)}, "c": {health: slow, proven: at(grace)}}, "", "c b a"},
		{"none", map[string]backend{"a": {health: down}, "b": {health: notReady}, "c": {}}, "", "c b a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t.Context(), slog.New(slog.DiscardHandler))
			for _, name := range []string{"a", "b", "c"} {
				if b, ok := tt.known[name]; ok {
					b.address = name
					p.backends = append(p.backends, &b)
				}
			}
			var order []string
			for _, b := range p.ranked() {
				order = append(order, b.address)
			}
			if want := strings.Fields(tt.order); !slices.Equal(order, want) {
				t.Errorf("all are tried in the order %q, want %q", order, want)
			}
			got := ""
			if b, _ := p.pick(); b != nil {
				got = b.address
			}
			if got != tt.want {
				t.Errorf("picked %q, want %q", got, tt.want)
			}
		})
	}
}
