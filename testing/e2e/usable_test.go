package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// TestFullDisk has kubelets that find their disk too full: apply says so and fails, and status does not call the cluster healthy.
func TestFullDisk(t *testing.T) {
	parallel(t, 20*time.Second)
	c := newCluster(t, "e2e-full", clusterSpec{
		subnet: "10.88.33.0/24", controlPlanes: 1,
		kubernetes: "    kubelet: {configPatch: {evictionHard: {nodefs.available: \"99.9%\"}}}\n",
	})
	r := c.applyFails(t, "DiskPressure", c.nodes()[0])
	if !strings.Contains(r.stderr, "its kubelet reports DiskPressure below") {
		t.Errorf("it was not foreseen: %v", r)
	}
	var status struct {
		Healthy  bool
		Machines []struct {
			Node struct{ Trouble []string }
		}
	}
	r = c.run(t, nil, "status", "-f", c.file, "--output", "json")
	text := r.stdout
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	if r.code != 1 || status.Healthy || len(status.Machines) != 1 || !strings.Contains(fmt.Sprint(status.Machines[0].Node.Trouble), "DiskPressure") {
		t.Errorf("status does not tell of the pressure:\n%s", text)
	}
}

// checkImages wants no image to have been pulled, and flanneld to have started once, on every node of a new cluster.
func (c *cluster) checkImages(t *testing.T) {
	t.Helper()
	for _, node := range c.nodes() {
		if pulled := c.sshOK(t, node, `journalctl -q --no-pager -o cat -u containerd | grep -i -e PullImage -e "failed to pull" || true`); pulled != "" {
			t.Errorf("%s: the runtime was asked to pull:\n%s", node, pulled)
		}
		if got := strings.TrimSpace(c.sshOK(t, node, "systemctl show --value -p NRestarts flanneld")); got != "0" {
			t.Errorf("%s: flanneld was restarted %s times:\n%s", node, got, c.sshOK(t, node, "journalctl -q --no-pager -o cat -n 40 -u flanneld"))
		}
	}
}

// checkMirror pulls an image of a registry that does not exist through a mirror that does.
func (c *cluster) checkMirror(t *testing.T, node string) {
	t.Helper()
	server := httptest.NewUnstartedServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = server.Listener.Close()
	server.Listener = listener
	asked := server.Config.Handler
	pulls := make(chan struct{}, 1000)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			pulls <- struct{}{}
		}
		asked.ServeHTTP(w, r)
	})
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	publish(t, server.URL+"/v2/team/app")
	c.sshOK(t, node, `set -e
dir=/etc/containerd/certs.d/registry.example.invalid
mkdir -p $dir
printf '[host."http://%s:`+port+`"]\n  capabilities = ["pull", "resolve"]\n' "$(ip route show default | cut -d' ' -f3)" >$dir/hosts.toml
crictl pull registry.example.invalid/team/app:v1
crictl rmi registry.example.invalid/team/app:v1
rm -r $dir`)
	if len(pulls) == 0 {
		t.Error("the mirror was not asked")
	}
}

// publish puts an image, v1, into a repository of a registry.
func publish(t *testing.T, repository string) {
	t.Helper()
	image, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, media string, body io.Reader) {
		request, err := http.NewRequestWithContext(t.Context(), method, repository+path, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", media)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, path, response.Status)
		}
	}
	send(http.MethodPost, "/blobs/uploads/?digest="+parsed.Layers[0].Digest.String(), "application/octet-stream", layer)
	send(http.MethodPost, "/blobs/uploads/?digest="+parsed.Config.Digest.String(), "application/octet-stream", bytes.NewReader(config))
	send(http.MethodPut, "/manifests/v1", string(parsed.MediaType), bytes.NewReader(manifest))
}
