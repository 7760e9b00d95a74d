package host_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/testing/hosttest"
)

// agentWith serves an agent with these keys, and returns its socket.
func agentWith(t *testing.T, keys ...secret.Bytes) string {
	t.Helper()
	keyring := agent.NewKeyring()
	for _, k := range keys {
		private, err := ssh.ParseRawPrivateKey(k.Reveal())
		if err == nil {
			err = keyring.Add(agent.AddedKey{PrivateKey: private})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return serveAgent(t, func(conn net.Conn) { _ = agent.ServeAgent(keyring, conn) })
}

// serveAgent answers each connection to a socket.
func serveAgent(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				serve(conn)
				_ = conn.Close()
			}()
		}
	}()
	return socket
}

func TestAgent(t *testing.T) {
	_, other := hosttest.NewKey(t)
	openSSH := hosttest.NewOpenSSH(t)
	openSSH.Name = "cp-1"
	for name, c := range map[string]host.Config{
		"in the test": hosttest.NewSSHD(t, hosttest.Options{}).Config("cp-1"), "OpenSSH": openSSH,
	} {
		t.Run(name, func(t *testing.T) {
			c.Agent, c.Identities = agentWith(t, other, c.Identities[0].Private), nil
			h := dial(t, c)
			defer func() { _ = h.Close() }()
			if _, err := h.Run(t.Context(), host.Cmd{Script: "true"}); err != nil {
				t.Error(err)
			}
			c.Agent = agentWith(t, other, other)
			_, err := host.Dial(t.Context(), c)
			var refused *host.AuthError
			if !errors.As(err, &refused) || len(refused.Keys) != 1 || !strings.HasPrefix(refused.Keys[0], "ssh-ed25519 SHA256:") {
				t.Errorf("with another key: %v", err)
			}
		})
	}
}

func TestManyKeysOfAgent(t *testing.T) {
	c := hosttest.NewOpenSSH(t)
	c.Name = "cp-1"
	var keys []secret.Bytes
	for range 8 {
		_, k := hosttest.NewKey(t)
		keys = append(keys, k)
	}
	c.Agent, c.Identities = agentWith(t, append(keys, c.Identities[0].Private)...), nil
	_, err := host.Dial(t.Context(), c) // sshd takes six tries (MaxAuthTries)
	var refused *host.AuthError
	if !errors.As(err, &refused) || len(refused.Keys) != 9 {
		t.Fatalf("got %v", err)
	}
	names(t, err, "any of 9 keys", "Too many authentication failures")
}

func TestAgentGivesNoKey(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	for name, test := range map[string]struct {
		socket string
		says   string
	}{
		"none":   {"", "neither a private key nor an SSH agent"},
		"dead":   {filepath.Join(t.TempDir(), "gone"), "no such file"},
		"empty":  {agentWith(t), "has no keys"},
		"closes": {serveAgent(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 5)) }), "EOF"},
		"is none": {serveAgent(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 5))
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n")
		}), "does not list its keys"},
		"hangs": {serveAgent(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			c := server.Config("cp-1")
			c.Identities, c.Agent, c.ConnectTimeout = nil, test.socket, 300*time.Millisecond
			_, err := host.Dial(t.Context(), c)
			var failed *host.AgentError
			if !errors.As(err, &failed) || failed.Socket != test.socket {
				t.Fatalf("got %v", err)
			}
			names(t, err, test.socket, test.says)
		})
	}
	if n := server.Accepted(); n != 0 {
		t.Errorf("%d connections with no key to log in with", n)
	}
}

func TestCancelAgent(t *testing.T) {
	c := hosttest.NewSSHD(t, hosttest.Options{}).Config("cp-1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	c.Identities, c.Agent = nil, serveAgent(t, func(conn net.Conn) {
		cancel(cause)
		_, _ = io.Copy(io.Discard, conn)
	})
	if _, err := host.Dial(ctx, c); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
