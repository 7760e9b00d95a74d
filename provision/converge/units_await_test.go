package converge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/balancer"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// runBalancer runs a node's balancer in front of a server until the test ends, and gives the address that it listens on.
func runBalancer(t *testing.T, ca []byte, backend string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, dir := free.Addr().String(), t.TempDir()
	_ = free.Close()
	config := balancer.Config{Listen: []string{address}, Backends: []string{backend}, CAFile: filepath.Join(dir, "ca.crt")}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": ca, "config.json": text} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- balancer.Run(ctx, filepath.Join(dir, "config.json"), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the balancer ended with %v", err)
		}
	})
	return address
}

// A balancer that listens and leads nowhere stops the run at the first batch, and so does one that has not read its
// configuration again; one that works is passed.
func TestABalancerThatLeadsNowhereStopsTheRun(t *testing.T) {
	t.Parallel()
	in := fixture.Input(t)
	desired := fixture.Desired(t, in)
	ca := in.PKI.Bundle(certs.KubernetesCA)
	healthz := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(healthz.Close)
	leaf := leafOf(in.PKI, stack.PKIDir+"/apiserver.crt", "demo-cp-1")
	pair, err := tls.X509KeyPair(leaf.Cert, leaf.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	good, dead := runBalancer(t, ca, server.Listener.Addr().String()), runBalancer(t, ca, "127.0.0.1:1")
	for _, tt := range []struct {
		name     string
		balancer string
		status   bool // that the configuration on disk is in force
		passes   bool
	}{
		{"it works", good, true, true},
		{"it listens and leads nowhere", dead, true, false},
		{"it has not read its configuration", good, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Runner{View: View{Input: in, Desired: stack.State{Hosts: map[string]stack.HostState{}}, Hosts: map[string]host.Host{}}}
			var err error
			if r.API, err = kube.New(&rest.Config{Host: "127.0.0.1:1"}); err != nil { // no kubelet was heard of
				t.Fatal(err)
			}
			s := plan.Situation{Machines: fixture.Machines(1, 3), Alive: true, MaxUnavailable: map[string]int{"w": 1}}
			for _, m := range s.Machines[1:] {
				h := served{hosttest.NewMemory(m.Name), map[string]string{
					"127.0.0.1:10248": healthz.Listener.Addr().String(), "127.0.0.1:10256": healthz.Listener.Addr().String(), "127.0.0.1:6444": tt.balancer,
				}}
				h.OnFunc("until ", func(ran hosttest.Ran) hosttest.Answer {
					want := desired.Hosts["demo-worker-1"].Files
					if status := balancer.Status(want[stack.BalancerFile].Content, want[stack.CAFile].Content); !strings.Contains(ran.Script, status) {
						return hosttest.Answer{Err: context.Canceled, Stderr: "the gate does not ask for the configuration"}
					}
					if !tt.status {
						return hosttest.Answer{Err: context.DeadlineExceeded} // the script waits until it is so
					}
					return hosttest.Answer{}
				})
				r.Hosts[m.Name], r.Desired.Hosts[m.Name] = h, desired.Hosts["demo-worker-1"]
				s.Changes = append(s.Changes, plan.Change{Host: m.Name, Kind: plan.FileChange, Name: stack.BalancerFile, Action: plan.Update})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			var steps []plan.Step
			for _, step := range plan.Schedule(s) {
				if step.Verb == plan.EnsureNode || step.Verb == plan.AwaitUsable { // gates of the API that would be passed: it calls the node Ready for 40 s
					step.Verb = plan.CheckQuorum // of a single control plane, which is none
				}
				steps = append(steps, step)
			}
			r.Input.Machines = s.Machines
			err = dag.Run(ctx, r.Bind(steps), 8, func(dag.Event) {})
			if (err == nil) != tt.passes {
				t.Errorf("the run ended with %v", err)
			}
			for i, m := range s.Machines[1:] {
				text, _ := r.Hosts[m.Name].Read(t.Context(), stack.BalancerFile)
				if written := len(text) > 0; written != (tt.passes || i == 0) {
					t.Errorf("%s was changed: %t", m.Name, written)
				}
			}
		})
	}
}
