package converge

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
	"slipway.dev/slipway/testing/hosttest"
)

// tokenHeader makes the first part of a JWT (RFC 7515, 4.1 and 7.1), as Kubernetes does: kid is the base64url, without
// padding, of the SHA-256 of the key's SubjectPublicKeyInfo in DER.
func tokenHeader(t *testing.T, key *ecdsa.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	text, err := json.Marshal(map[string]string{"alg": "ES256", "kid": base64.URLEncoding.WithPadding(base64.NoPadding).EncodeToString(sum[:])})
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func TestSignedByTellsKeysOfTokensApart(t *testing.T) {
	var headers []string
	var public []byte
	for range 2 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, tokenHeader(t, &key.PublicKey))
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}) // of the second
	}
	want, err := keyID(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyID([]byte("rubbish")); err == nil {
		t.Error("rubbish is a key")
	}
	anothers := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for _, tt := range []struct{ name, headers, want string }{
		{"none", "", ""},
		{"the wanted key", "u1/volumes/x/token " + headers[1] + "\n", ""},
		{"another key", "u1/volumes/x/token " + headers[0] + "\n", "pod with UID u1"},
		{"both", "u1/a " + headers[0] + "\nu2/a " + headers[1] + "\nu3/a " + headers[0], "pod with UID u1\npod with UID u3"},
		{"no JWT", "u1/a eyJub3Q\nu2/a eyJ!\nu3/a " + anothers + "\nu4/a", ""},
	} {
		got := ""
		if err := signedBy(tt.headers, want); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestClientsAreThoseWhoseCertificatesAreRenewed(t *testing.T) {
	change := func(kind plan.Kind, action plan.Action, name string) plan.Change {
		return plan.Change{Host: "h", Kind: kind, Action: action, Name: name}
	}
	changes := []plan.Change{
		change(plan.FileChange, plan.Update, stack.PKIDir+"/kube-proxy.crt"),
		change(plan.FileChange, plan.Update, stack.PKIDir+"/controller-manager.crt"),
		change(plan.FileChange, plan.Update, stack.PKIDir+"/apiserver.crt"),             // which it serves
		change(plan.FileChange, plan.Update, stack.PKIDir+"/apiserver-etcd-client.crt"), // whose connections last
		change(plan.FileChange, plan.Create, stack.PKIDir+"/scheduler.crt"),             // there was none before
		change(plan.UnitChange, plan.Update, "/var/lib/kubelet/pki/kubelet-client.crt"),
	}
	want := fmt.Sprintf("kube-controller-manager.service %04X some\nkube-proxy.service %04X all", stack.APIPort, stack.BalancerPort)
	if got := plan.Clients(changes); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := plan.Clients(changes[2:]); got != "" {
		t.Errorf("nobody's are, and got %q", got)
	}
}

// dialed are connections of this process to a port of its own.
func dialed(t *testing.T, n int) (port int, conns, others []net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for range n {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		other, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = conn.Close(), other.Close() })
		conns, others = append(conns, conn), append(others, other)
	}
	return listener.Addr().(*net.TCPAddr).Port, conns, others
}

// connectionsScript is the script, with a systemctl for which unit.service is this process, mute.service is one that
// it cannot tell of, and no other unit runs.
func connectionsScript(ctx context.Context, t *testing.T, vars ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	systemctl := fmt.Sprintf(`#!/bin/sh
case $* in
*mute.service) echo 'Failed to connect to bus' >&2; exit 1 ;;
'show --property=MainPID --value unit.service') echo %d ;;
*) echo 0 ;;
esac
`, os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(systemctl), 0o700); err != nil { // #nosec G306 -- it is run
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", templates.ConnectionsScript()) // #nosec G204 -- the script that is tested
	cmd.Env = append(os.Environ(), append(vars, "PATH="+dir+":"+os.Getenv("PATH"))...)
	cmd.WaitDelay = time.Second
	return cmd
}

func TestConnectionsAreListedAndTheirEndIsWaitedFor(t *testing.T) {
	t.Parallel()
	port, conns, others := dialed(t, 3)
	otherPort, _, _ := dialed(t, 1)
	list := func(clients string) []string {
		t.Helper()
		out, err := connectionsScript(t.Context(), t, "CLIENTS="+clients).Output()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Collect(strings.Lines(string(out)))
	}
	text := func(which string) string { return fmt.Sprintf("unit.service %04X %s", port, which) }
	first := list(text("all"))
	if len(first) != 3 || !regexp.MustCompile(`^unit.service [1-9][0-9]*\n$`).MatchString(first[0]) {
		t.Fatalf("got %q, want 3 connections", first)
	}
	before := strings.TrimSpace(strings.Join(first, ""))
	if both := list(text("all") + fmt.Sprintf("\nunit.service %04X all\ngone.service %04X all", otherPort, port)); len(both) != 4 {
		t.Errorf("of two ports: %q", both)
	}
	mute := text("all") + fmt.Sprintf("\nmute.service %04X all", port)
	if out, err := connectionsScript(t.Context(), t, "CLIENTS="+mute).Output(); err == nil {
		t.Errorf("systemd does not answer, and it lists %q", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := connectionsScript(ctx, t, "CLIENTS="+mute, "BEFORE=mute.service 1").Run(); err == nil {
		t.Error("systemd does not answer, and it knows that connections have ended")
	}
	ends := func(which string, wait time.Duration) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		cmd := connectionsScript(ctx, t, "CLIENTS="+text(which), "BEFORE="+before)
		var out bytes.Buffer
		cmd.Stdout = &out
		err := cmd.Run()
		if err == nil && out.Len() > 0 {
			t.Errorf("it printed %q", &out)
		}
		return err == nil
	}
	const brief, enough = 1200 * time.Millisecond, 20 * time.Second
	if ends("all", brief) || ends("some", brief) {
		t.Error("it ended while all connections were there")
	}
	_ = conns[1].Close()
	if !ends("some", enough) {
		t.Error("one of some has ended, and it waits")
	}
	if ends("all", brief) {
		t.Error("it ended while most connections were there")
	}
	next, err := net.Dial("tcp", conns[0].RemoteAddr().String()) // a new one is none of those
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	time.AfterFunc(700*time.Millisecond, func() { _, _ = conns[0].Close(), others[2].Close() })
	if !ends("all", enough) {
		t.Error("all have ended, and it waits")
	}
	if left := list(text("all")); len(left) != 1 || slices.Contains(first, left[0]) {
		t.Errorf("got %q, want the new connection alone", left)
	}
}

// What is kept of connections when a certificate is renewed tells later whether those of before have ended.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	port, conns, _ := dialed(t, 2)
	dir := filepath.Join(t.TempDir(), "clients")
	run := func(vars ...string) string {
		t.Helper()
		out, err := connectionsScript(t.Context(), t, vars...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	unit := fmt.Sprintf("unit.service %04X", port)
	state := func(want string) {
		t.Helper()
		if got := run("KEPT=" + dir); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	state("") // nothing was renewed yet
	clients := fmt.Sprintf("CLIENTS=%s all\ngone.service %04X some", unit, port)
	if listed := run(clients); run(clients, "KEEP="+dir) != listed || strings.Count(listed, "\n") != 2 {
		t.Errorf("keeping them lists others than %q", listed)
	}
	gone := fmt.Sprintf("[client] gone.service %04X new\n", port)
	state(gone + "[client] " + unit + " old\n")
	_ = conns[0].Close()
	state(gone + "[client] " + unit + " old\n")
	_ = conns[1].Close()
	state(gone + "[client] " + unit + " new\n")
	mute := fmt.Sprintf("mute.service %04X all", port)
	if err := os.WriteFile(filepath.Join(dir, "mute.service"), []byte(mute+"\nmute.service 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state(gone + strings.Replace("[client] "+mute, "all", "unknown", 1) + "\n[client] " + unit + " new\n")
	if out, err := connectionsScript(t.Context(), t, "CLIENTS="+mute, "KEEP="+dir).Output(); err == nil {
		t.Errorf("systemd does not answer, and it keeps %q", out)
	}
}

// noted is a host that lists what is done to it; no unit has a connection there.
type noted struct {
	*hosttest.Memory
	did []string
}

func (n *noted) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	if strings.HasPrefix(cmd.Script, "CLIENTS=") {
		n.did = append(n.did, "note")
	}
	return host.Result{}, nil
}

func (n *noted) Write(context.Context, []host.File) error {
	n.did = append(n.did, "write")
	return nil
}

// TestConnectionsAreNotedBeforeARenewal: without them nothing would be waited for in the end.
func TestConnectionsAreNotedBeforeARenewal(t *testing.T) {
	h, cert := &noted{Memory: hosttest.NewMemory("w-1")}, stack.Clients()[0].Cert
	files := map[string]stack.File{cert: stack.Regular([]byte("new"), false, "")}
	r := &Runner{View: View{
		Hosts:   map[string]host.Host{"w-1": h},
		Desired: stack.State{Hosts: map[string]stack.HostState{"w-1": {Files: files}}},
	}}
	change := plan.Change{Host: "w-1", Kind: plan.FileChange, Name: cert, Action: plan.Update}
	if err := r.apply(t.Context(), plan.Step{Host: "w-1", Verb: plan.Apply, Changes: []plan.Change{change}}); err != nil {
		t.Fatal(err)
	}
	if len(h.did) < 2 || h.did[0] != "note" || h.did[1] != "write" {
		t.Errorf("it did %q", h.did)
	}
}
