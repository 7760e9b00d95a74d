package local

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMounting: containers of any origin count, running or not, that see the bundles, by whatever path.
func TestMounting(t *testing.T) {
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	if err := os.MkdirAll(filepath.Join(cache, "bundles"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(cache, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.44")
		case strings.HasSuffix(r.URL.Path, "/containers/json") && r.URL.Query().Get("all") == "1":
			_, _ = w.Write([]byte(strings.ReplaceAll(`[
				{"Id": "1", "Names": ["/by-label"], "State": "exited", "Labels": {"slipway.dev/bundles": "DIR/link/bundles"}},
				{"Id": "2", "Names": ["/by-mount"], "Mounts": [{"Type": "bind", "Source": "DIR/cache/bundles"}]},
				{"Id": "3", "Names": ["/above"], "Mounts": [{"Type": "bind", "Source": "DIR"}]},
				{"Id": "4", "Names": ["/below"], "Mounts": [{"Type": "bind", "Source": "DIR/cache/bundles/0123456789abcdef"}]},
				{"Id": "5", "Names": ["/copies"], "Labels": {"slipway.dev/bundles": ""}},
				{"Id": "6", "Names": ["/other"], "Labels": {"slipway.dev/bundles": "DIR/elsewhere/bundles"}, "Mounts": [{"Type": "volume", "Source": ""}]}
			]`, "DIR", dir)))
		default:
			http.Error(w, `{"message": "not known"}`, http.StatusNotFound)
		}
	}
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	if names, err := Mounting(t.Context(), cache); err == nil {
		t.Errorf("without an engine: %q", names)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer)} //nolint:gosec // of a test
	go server.Serve(listener)                                 //nolint:errcheck // ends with the test
	defer server.Close()                                      //nolint:errcheck // of a test
	names, err := Mounting(t.Context(), cache)
	if want := []string{"above", "below", "by-label", "by-mount"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v, want %q", names, err, want)
	}
}
