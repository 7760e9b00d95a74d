package live

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/hosttest"
)

// TestWithoutPinnedKeys: a machine that brings no host keys is checked by known_hosts, one that brings no key is entered with
// the agent's, and one that brings both needs neither.
func TestWithoutPinnedKeys(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(knownhosts.Line([]string{server.Address}, key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := spec.Machine{Name: "cp-1", SSH: spec.SSH{Address: server.Address, User: "root", Identities: []spec.Identity{{Private: server.Key}}}}
	in := &SSH{KnownHosts: []string{file}, Agent: "/no/such/agent"}
	h, err := in.Dial(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
	if _, err := new(SSH).Dial(t.Context(), m); err == nil {
		t.Error("connected with nothing to verify the host by")
	}
	m.SSH.Identities = nil
	_, closeAll, failed := in.DialAll(t.Context(), []spec.Machine{m})
	defer closeAll()
	var none *host.AgentError
	if !errors.As(failed["cp-1"], &none) || none.Socket != in.Agent {
		t.Errorf("got %v", failed)
	}
}
