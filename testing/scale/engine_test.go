package scale_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
)

func (c *cluster) engine() string { return "unix://" + filepath.Join(c.dir, "docker.sock") }

// startEngine is as much of a Docker engine as the local provider needs to find machines that run.
func (c *cluster) startEngine(t testing.TB) {
	t.Helper()
	var machines []container.Summary
	address := machineNetwork().Addr()
	for range 10 {
		address = address.Next()
	}
	for _, n := range c.spec.Nodes() {
		_, port, err := net.SplitHostPort(c.servers[n.Name].Address)
		if err != nil {
			t.Fatal(err)
		}
		machines = append(machines, container.Summary{
			ID: n.Name, Names: []string{"/" + n.Name}, State: container.StateRunning, Status: "Up 2 hours",
			Labels: map[string]string{
				"slipway.dev/cluster": c.spec.Metadata.Name, "slipway.dev/uid": clusterUID, "slipway.dev/pool": n.Pool, "slipway.dev/role": string(n.Role),
				"slipway.dev/address": address.String(), "slipway.dev/ssh-port": port, "slipway.dev/bundles": filepath.Join(c.cacheDir(), "bundles"),
			},
		})
		address = address.Next()
	}
	ours := network.Summary{Network: network.Network{
		Name: "slipway-" + c.spec.Metadata.Name, Labels: map[string]string{
			"slipway.dev/cluster": c.spec.Metadata.Name, "slipway.dev/uid": clusterUID, "slipway.dev/api-port": "16443",
		},
		IPAM: network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("172.16.0.0/16")}}},
	}}
	answers := map[string]any{
		"/containers/json": machines,
		"/networks":        []network.Summary{ours},
		"/volumes":         volume.ListResponse{},
	}
	listener, err := net.Listen("unix", filepath.Join(c.dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Ostype", "linux")
		if r.URL.Path == "/_ping" {
			return
		}
		path := r.URL.Path[strings.Index(r.URL.Path[1:], "/")+1:] // behind the version
		answer, ok := answers[path]
		if !ok || r.Method != http.MethodGet {
			http.Error(w, `{"message": "this engine only tells what there is"}`, http.StatusNotImplemented)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})}}
	server.Start()
	t.Cleanup(server.Close)
}
