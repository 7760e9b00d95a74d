package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// mirror is a web server, on this computer, with what `slipway bundle mirror` has written.
type mirror struct {
	*httptest.Server
	dir string

	mu    sync.Mutex
	lies  bool
	sent  int64
	asked map[string]int // for which files, by machine and name
}

func newMirror(t *testing.T, address string) *mirror {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{dir: t.TempDir(), asked: map[string]int{}}
	m.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(m.serve)}}
	m.Start()
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) serve(w http.ResponseWriter, r *http.Request) {
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	file := filepath.Join(m.dir, filepath.Base(r.URL.Path))
	info, err := os.Stat(file)
	m.mu.Lock()
	lies := m.lies
	m.asked[from+" "+filepath.Base(file)]++
	if err == nil {
		m.sent += info.Size()
	}
	m.mu.Unlock()
	if lies && err == nil {
		_, _ = w.Write(make([]byte, info.Size()))
		return
	}
	http.ServeFile(w, r, file)
}

// checkFetching spoils a program on all machines: each fetches it from a mirror, and this computer sends
// it to none. Then the mirror lies: that is said, and the machines get what they should even so.
func (c *cluster) checkFetching(t *testing.T) {
	before := c.spec
	defer c.write(t, before)
	device, err := bridge(t.Context(), c.nodes()[0])
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror(t, strings.TrimSuffix(before.subnet, "0/24")+"1")
	c.ok(t, "bundle", "mirror", m.dir)
	spec := before
	spec.extra += "  bundle: {url: " + m.URL + "}\n"
	c.write(t, spec)
	program, _, _ := strings.Cut(c.sshOK(t, c.nodes()[0], "sha256sum $(find /opt/slipway -type f -name crictl)"), " ")
	files, _ := filepath.Glob(filepath.Join(m.dir, program+".*.zst")) // the pattern is well-formed
	if len(files) != 1 {
		t.Fatalf("of crictl the mirror has %q", files)
	}
	spoil := func() {
		for _, node := range c.nodes() {
			c.sshOK(t, node, `p=$(find /opt/slipway -type f -name crictl); echo more >>$p`)
		}
	}
	spoil()
	began := sent(t, device)
	c.apply(t)
	m.mu.Lock()
	asked, served := fmt.Sprint(m.asked), m.sent
	if len(m.asked) != len(c.nodes()) || strings.Count(asked, filepath.Base(files[0])+":1") != len(c.nodes()) {
		t.Errorf("the mirror was asked for %s", asked)
	}
	m.lies = true
	m.mu.Unlock()
	if more, size := sent(t, device)-began-served, served/int64(len(c.nodes())); more > size {
		t.Errorf("this computer sent %d KB beside the mirror, more than crictl's %d KB", more>>10, size>>10)
	}
	spoil()
	r := c.apply(t)
	if n := strings.Count(r.stdout+r.stderr, "the mirror "+m.URL+" gave crictl with another content than it should have"); n != 1 {
		t.Errorf("it was said %d times that the mirror lies: %v", n, r)
	}
	for _, node := range c.nodes() {
		c.sshOK(t, node, "crictl --version")
	}
}
