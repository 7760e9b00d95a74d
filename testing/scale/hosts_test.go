package scale_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/hosttest"
)

const hostsText = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: scale}
spec:
  kubernetes: {version: v1.36.3}
  provider:
    hosts:
      sshConfig: none
      ssh: {user: root, agent: none, identityFiles: [%[1]s/id_ed25519], knownHostsFiles: [%[1]s/known_hosts], jumps: [%[2]s, %[3]s]}
  controlPlane: {endpoint: 127.0.0.1:6443}
  network: {podSubnet: 10.0.0.0/12, serviceSubnet: 10.96.0.0/12}
  nodePools:
  - name: cp
    role: control-plane
    hosts:
%[4]s  - name: worker
    role: worker
    hosts:
%[5]s`

// newHosts simulates a cluster of so many machines that exist, behind two bastions.
func newHosts(t testing.TB, hosts int) *cluster {
	t.Helper()
	return simulate(t, hosts, func(c *cluster) []byte {
		c.known.Hosts = map[string]spec.KnownHost{}
		var known strings.Builder
		add := func(s *hosttest.SSHD) *hosttest.SSHD {
			host, port, err := net.SplitHostPort(s.Address)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&known, "[%s]:%s %s\n", host, port, s.HostKey)
			return s
		}
		bastion := func() string {
			s := add(hosttest.NewSSHD(t, hosttest.Options{Client: c.user, Latency: latency, InFlight: 8192, Dial: func(address string) (net.Conn, error) {
				return net.Dial("tcp", address)
			}}))
			return "'" + s.Address + "'"
		}
		first, second := bastion(), bastion()
		var pools [2]strings.Builder
		for i, name := range names(hosts) {
			_, port, err := net.SplitHostPort(add(c.servers[name]).Address)
			if err != nil {
				t.Fatal(err)
			}
			pool := &pools[1]
			if i < controlPlanes {
				pool = &pools[0]
			}
			fmt.Fprintf(pool, "    - {address: 127.0.0.1, name: %s, ssh: {port: %s}}\n", name, port)
			network := machineNetwork().Addr().As4()
			c.known.Hosts[net.JoinHostPort("127.0.0.1", port)] = spec.KnownHost{
				Name: name, Address: netip.AddrFrom4([4]byte{network[0], network[1], byte(i / 250), byte(i%250 + 1)}),
			}
		}
		if err := os.WriteFile(filepath.Join(c.keysDir(), "known_hosts"), []byte(known.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, hostsText, c.keysDir(), first, second, pools[0].String(), pools[1].String())
	})
}

// writing is how a script begins that puts files in place.
var writing = regexp.MustCompile(`# write [0-9]+ files\n`)

// write is a host that puts files in place, if the command is to do that.
func (c *cluster) write(t testing.TB, node, line string, stdin io.Reader) bool {
	if !writing.MatchString(line) {
		return false
	}
	files := map[string]stack.File{}
	for archive := tar.NewReader(stdin); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("%s: what is written is no archive: %v", node, err)
			return true
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil {
			t.Errorf("%s: what is written ends early: %v", node, err)
		}
		// Its name has the directory in which it is staged.
		name := path.Join(path.Dir(path.Dir(header.Name)), path.Base(header.Name))
		files[name] = stack.File{Digest: hex.EncodeToString(sum.Sum(nil)), Changed: time.Now()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alter(node, func(h *stack.HostState) {
		for name, f := range files {
			was := h.Files[name]
			was.Digest, was.Changed = f.Digest, f.Changed
			h.Files[name] = was
		}
	})
	return true
}

// crictl is a file of every node that no unit reads.
const crictl = "/etc/crictl.yaml"

// edit changes one file on every worker, behind slipway's back.
func (c *cluster) edit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.servers {
		if !strings.Contains(name, "-worker-") {
			continue
		}
		c.alter(name, func(h *stack.HostState) {
			f := h.Files[crictl]
			f.Digest, f.Changed = h.Files[ownedFile].Digest, edited
			h.Files[crictl] = f
		})
	}
}

// apply is `slipway apply`.
func (c *cluster) apply(t testing.TB) figures {
	t.Helper()
	_, f := c.slipway(t, "apply", "--yes")
	return f
}

// healthy answers the health checks of a worker's kubelet and kube-proxy.
func healthy(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestHostsBehindBastions: a file that was edited on every worker is found and put right, through two bastions that each carry one
// connection of slipway's.
func TestHostsBehindBastions(t *testing.T) {
	c := newHosts(t, 20)
	c.edit()
	p, _ := c.run(t)
	if len(p.Changes) != 20-controlPlanes || len(p.Held) > 0 || p.APIError != "" {
		t.Fatalf("%d changes, held %v, API %q", len(p.Changes), p.Held, p.APIError)
	}
	c.apply(t)
	if p, _ = c.run(t); !p.Empty() {
		t.Errorf("after the apply %v differ", p.Changes)
	}
}
