package spec

import (
	"strings"
	"testing"
)

// TestMirror: machines that get copies may have a mirror, encrypted in transit or not.
func TestMirror(t *testing.T) {
	copied := strings.Replace(minimal, "local: {}", "local: {bundle: copy}", 1)
	for _, url := range []string{"https://mirror.example.com", "http://10.0.0.1:8080/slipway/", "https://[::1]/a%20b"} {
		if got := mustParse(t, copied+"  bundle: {url: '"+url+"'}\n").Spec.Bundle; got.URL != url || got.Kept() != keptVersions {
			t.Errorf("%s: %+v", url, got)
		}
	}
}
