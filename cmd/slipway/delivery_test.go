package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestProxies: what the environment does not say, /etc/environment may.
func TestProxies(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	file := filepath.Join(t.TempDir(), "environment")
	text := "# PATH\nPATH=/bin\nHTTP_PROXY=http://one.example:3128\nexport https_proxy=\"http://two.example:3128\"\nno_proxy='.internal.example'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	through := func(file, at string) string {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		proxy, err := proxies(file)(req)
		if err != nil {
			t.Fatal(err)
		}
		if proxy == nil {
			return ""
		}
		return proxy.Host
	}
	for at, want := range map[string]string{
		"http://mirror.example/a": "one.example:3128", "https://mirror.example/a": "two.example:3128", "https://mirror.internal.example/a": "",
	} {
		if got := through(file, at); got != want {
			t.Errorf("%s goes through %q, want %q", at, got, want)
		}
	}
	if got := through(filepath.Join(filepath.Dir(file), "none"), "http://mirror.example/a"); got != "" {
		t.Errorf("without a file: %q", got)
	}
	t.Setenv("http_proxy", "http://three.example:3128")
	if got := through(file, "http://mirror.example/a"); got != "three.example:3128" {
		t.Errorf("the environment goes before the file: %q", got)
	}
}
