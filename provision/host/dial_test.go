package host_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// names checks that an error says which host, and where.
func names(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range append(parts, "cp-1") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

func publicLine(t *testing.T) string {
	signer, _ := hosttest.NewKey(t)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// newIdentity is a key that no server knows.
func newIdentity(t *testing.T) []host.Identity {
	_, key := hosttest.NewKey(t)
	return []host.Identity{{Private: key}}
}

func ecdsaKey(t *testing.T) ssh.PublicKey {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestWrongHostKey(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	c := server.Config("cp-1")
	c.HostKeys = []string{publicLine(t), publicLine(t)}
	_, err := host.Dial(t.Context(), c)
	var wrong *host.HostKeyError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	names(t, err, server.Address, "SHA256:", "pinned")
	key, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	if wrong.Got != "ssh-ed25519 "+ssh.FingerprintSHA256(key) || len(wrong.Want) != 2 || wrong.Address != server.Address {
		t.Errorf("got %+v", wrong)
	}
	if n := server.Accepted(); n != 1 {
		t.Errorf("%d connections: it was retried", n)
	}
}

// TestOtherKeyType pins a key of a type that the server does not have: another host.
func TestOtherKeyType(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	c := server.Config("cp-1")
	c.HostKeys = []string{string(ssh.MarshalAuthorizedKey(ecdsaKey(t)))}
	_, err := host.Dial(t.Context(), c)
	var wrong *host.HostKeyError
	if !errors.As(err, &wrong) || wrong.Got != "of type ssh-ed25519" {
		t.Errorf("got %v", err)
	}
}

func TestAuthRefused(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{RefuseKeys: true})
	c := server.Config("cp-1")
	c.User = "admin"
	_, err := host.Dial(t.Context(), c)
	var refused *host.AuthError
	if !errors.As(err, &refused) || refused.User != "admin" || len(refused.Keys) != 1 || !strings.HasPrefix(refused.Keys[0], "ssh-ed25519 SHA256:") {
		t.Fatalf("got %v", err)
	}
	names(t, err, server.Address)
	if n := server.Accepted(); n != 1 {
		t.Errorf("%d connections: it was retried", n)
	}
}

func TestBadKeyIsNotPrinted(t *testing.T) {
	c := hosttest.NewSSHD(t, hosttest.Options{}).Config("cp-1")
	c.Identities[0].Private = []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
	_, err := host.Dial(t.Context(), c)
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, c, c), "c2VjcmV0") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	silent := func(int, net.Conn) bool { return false }
	chatty := func(_ int, c net.Conn) bool {
		_, _ = io.WriteString(c, "Exceeded MaxStartups\r\n")
		return false
	}
	for name, c := range map[string]host.Config{
		"refused":         {Address: listener.Addr().String()},
		"cut":             {Address: hosttest.NewSSHD(t, hosttest.Options{Accept: silent}).Address},
		"not SSH":         {Address: hosttest.NewSSHD(t, hosttest.Options{Accept: chatty}).Address},
		"says nothing":    {Address: quiet(t)},
		"unresolvable":    {Address: "no-such-host.invalid:22"},
		"not an address":  {Address: "127.0.0.1"},
		"impossible port": {Address: "127.0.0.1:99999"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Identities = newIdentity(t)
			c.Name, c.HostKeys, c.ConnectTimeout = "cp-1", []string{publicLine(t)}, 300*time.Millisecond
			_, err := host.Dial(t.Context(), c)
			var unreachable *host.UnreachableError
			if !errors.As(err, &unreachable) || unreachable.Last == nil || unreachable.Address != c.Address {
				t.Fatalf("got %v", err)
			}
			names(t, err, c.Address)
		})
	}
}

// quiet listens and never answers.
func quiet(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// TestBoot is a machine that first refuses, then drops, then talks nonsense, and then is there.
func TestBoot(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	server := make(chan *hosttest.SSHD, 1)
	key, _ := hosttest.NewKey(t)
	go func() {
		<-time.After(100 * time.Millisecond) // refusing meanwhile
		server <- hosttest.NewSSHD(t, hosttest.Options{Address: address, HostKey: key, RefuseKeys: true, Accept: func(n int, c net.Conn) bool {
			if n == 2 {
				_, _ = io.WriteString(c, "Not allowed at this time\r\n")
			}
			return n > 2
		}})
	}()
	c := host.Config{Name: "cp-1", Address: address, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}}
	c.Identities = newIdentity(t)
	_, err = host.Dial(t.Context(), c)
	var refused *host.AuthError // it came as far as that
	if !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	if n := (<-server).Accepted(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestCancelDial(t *testing.T) {
	for name, address := range map[string]string{"quiet": quiet(t), "refused": "127.0.0.1:1"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("interrupted")
		timer := time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
		c := host.Config{Name: "cp-1", Address: address, HostKeys: []string{publicLine(t)}}
		c.Identities = newIdentity(t)
		start := time.Now()
		_, err := host.Dial(ctx, c)
		timer.Stop()
		if !errors.Is(err, cause) || time.Since(start) > 4*time.Second {
			t.Errorf("%s: got %v after %s", name, err, time.Since(start))
			continue
		}
		names(t, err, address)
	}
}

// noisy is a connection whose server says much before its banner (RFC 4253, section 4.2).
type noisy struct {
	net.Conn
	noise io.Reader
}

func (c noisy) Read(p []byte) (int, error) {
	n, err := c.noise.Read(p)
	if n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	return c.Conn.Read(p)
}

// TestLinesBeforeTheBanner: it is recognized wherever it begins.
func TestLinesBeforeTheBanner(t *testing.T) {
	for _, noise := range []string{"", "x\n", "welcome to\nSSH\n", strings.Repeat("SSH x\n", 1000)} {
		c := hosttest.NewSSHD(t, hosttest.Options{}).Config("cp-1")
		c.Network = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return noisy{conn, strings.NewReader(noise)}, err
		}
		h := dial(t, c)
		if _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); err != nil {
			t.Errorf("after %d bytes: %v", len(noise), err)
		}
		_ = h.Close()
	}
}
