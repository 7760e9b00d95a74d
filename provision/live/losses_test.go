package live

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// asker is a host that takes no connection, and notes that one was wanted.
type asker struct {
	host.Host
	name string
	mu   *sync.Mutex
	who  map[string]bool
}

func (d asker) DialContext(context.Context, string, string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.who[d.name] = true
	return nil, errors.New("it takes none")
}

// Neither the API nor etcd is asked through a host that is part of another cluster, or of what this one was: that would answer.
func TestStrangersAreNotAsked(t *testing.T) {
	for name, f := range map[string]stack.Facts{
		"of another cluster":   {ClusterUID: "0b7c1c3e-1c43-4d0c-8a4f-5a2c1d9e7b22"},
		"of another beginning": {ClusterUID: fixture.Input(t).UID, Generation: "2", EtcdData: true},
	} {
		t.Run(name, func(t *testing.T) {
			in := fixture.Input(t)
			in.Facts["demo-cp-1"] = f
			var mu sync.Mutex
			who := map[string]bool{}
			hosts := map[string]host.Host{}
			for _, m := range in.ControlPlanes() {
				hosts[m.Name] = asker{name: m.Name, mu: &mu, who: who}
			}
			api, err := API(in, hosts)
			if err != nil {
				t.Fatal(err)
			}
			etcd, err := Etcd(in, hosts)
			if err != nil {
				t.Fatal(err)
			}
			for what, ask := range map[string]func(context.Context) error{
				"API": api.Ready, "etcd": func(ctx context.Context) error { _, err := etcd.Status(ctx); return err },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if err := ask(ctx); err == nil {
					t.Errorf("%s: it answers", what)
				}
				cancel()
				mu.Lock()
				if who["demo-cp-1"] || !who["demo-cp-2"] || !who["demo-cp-3"] {
					t.Errorf("%s: asked through %v", what, who)
				}
				clear(who)
				mu.Unlock()
			}
		})
	}
}
