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
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

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

func TestKnownHosts(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	key, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(server.HostKey)) //nolint:dogsled // its signature
	other, _ := hosttest.NewKey(t)
	file := func(lines ...string) string {
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := knownhosts.Line([]string{server.Address}, key)
	for _, test := range []struct {
		name   string
		file   string
		trust  func(string) error
		wants  int // expected keys in the error
		accept bool
	}{
		{name: "known", file: file(good), accept: true},
		{name: "known among other types", file: file(knownhosts.Line([]string{server.Address}, ecdsaKey(t)), good), accept: true},
		{name: "other key", file: file(knownhosts.Line([]string{server.Address}, other.PublicKey())), wants: 1},
		{name: "unknown", file: file(knownhosts.Line([]string{"elsewhere"}, key))},
		{name: "unknown, trusted", file: file(), trust: func(got string) error {
			if got != server.HostKey {
				t.Errorf("asked for %s", got)
			}
			return nil
		}, accept: true},
		{name: "no file, trusted", file: "/no/such/file", trust: func(string) error { return nil }, accept: true},
		{name: "other key, trusted", file: file(knownhosts.Line([]string{server.Address}, other.PublicKey())),
			trust: func(string) error { return nil }, wants: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := server.Config("cp-1")
			c.HostKeys, c.KnownHosts, c.TrustOnFirstUse = nil, test.file, test.trust
			h, err := host.Dial(t.Context(), c)
			if err == nil {
				_ = h.Close()
			}
			if test.accept {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var wrong *host.HostKeyError
			if !errors.As(err, &wrong) || len(wrong.Want) != test.wants || wrong.Source != test.file {
				t.Errorf("got %v", err)
			}
		})
	}
	c := server.Config("cp-1")
	c.HostKeys = nil
	if _, err := host.Dial(t.Context(), c); err == nil {
		t.Error("connected with nothing to verify the host by")
	}
}

func TestAuthRefused(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{RefuseKeys: true})
	c := server.Config("cp-1")
	c.User = "admin"
	_, err := host.Dial(t.Context(), c)
	var refused *host.AuthError
	if !errors.As(err, &refused) || refused.User != "admin" || !strings.HasPrefix(refused.Key, "ssh-ed25519 SHA256:") {
		t.Fatalf("got %v", err)
	}
	names(t, err, server.Address)
	if n := server.Accepted(); n != 1 {
		t.Errorf("%d connections: it was retried", n)
	}
}

func TestBadKeyIsNotPrinted(t *testing.T) {
	c := hosttest.NewSSHD(t, hosttest.Options{}).Config("cp-1")
	c.Key = []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
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
			_, c.Key = hosttest.NewKey(t)
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
	_, c.Key = hosttest.NewKey(t)
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
		_, c.Key = hosttest.NewKey(t)
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

// started runs a script that says when it has begun, and returns its outcome later.
func started(t *testing.T, h host.Host) <-chan error {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := h.Run(context.Background(), host.Cmd{Script: "echo begun; exec sleep 1000", Stdout: w})
		_ = w.Close()
		done <- err
	}()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return done
}

func TestLostConnection(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(*hosttest.SSHD, *host.SSH)
		want string
	}{
		"cut":    {func(s *hosttest.SSHD, _ *host.SSH) { s.Drop() }, ""},
		"dead":   {func(s *hosttest.SSHD, _ *host.SSH) { s.Freeze() }, "no sign of life"},
		"closed": {func(_ *hosttest.SSHD, h *host.SSH) { _ = h.Close() }, net.ErrClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			server := hosttest.NewSSHD(t, hosttest.Options{})
			c := server.Config("cp-1")
			c.KeepAlive = 100 * time.Millisecond
			h := dial(t, c)
			defer func() { _ = h.Close() }()
			done := started(t, h)
			test.lose(server, h)
			for _, wait := range []func() error{
				func() error { return <-done },
				func() error { _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); return err },
				func() error { return h.Write(t.Context(), []host.File{{Path: "/nowhere", Mode: 0o600}}) },
				func() error { _, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:1"); return err },
			} {
				err := wait()
				var lost *host.LostError
				if !errors.As(err, &lost) {
					t.Fatalf("got %v", err)
				}
				names(t, err, server.Address, test.want)
			}
			<-h.Done()
		})
	}
}

// TestSilentHost ends a run on a host that has died but is not known to have.
func TestSilentHost(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	h := dial(t, server.Config("cp-1"))
	defer func() { _ = h.Close() }()
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Run(ctx, host.Cmd{Script: ":"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	for name, limit := range map[string]int{"OpenSSH's default": 10, "a strict host": 2} {
		server := hosttest.NewSSHD(t, hosttest.Options{MaxSessions: limit})
		h := dial(t, server.Config("cp-1"))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := h.Run(t.Context(), host.Cmd{Script: "sleep 0.05"}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		if n := server.Busiest(); n > limit || n < 2 {
			t.Errorf("%s: %d sessions at one time", name, n)
		}
		if n := server.Accepted(); n != 1 {
			t.Errorf("%s: %d connections", name, n)
		}
		_ = h.Close()
	}
}

// TestSudo sees a user other than root go through sudo, without a question.
func TestSudo(t *testing.T) {
	dir := t.TempDir()
	//nolint:gosec // it has to be executable
	err := os.WriteFile(filepath.Join(dir, "sudo"), []byte("#!/bin/sh\n[ \"$1\" = -n ] || exit 99\nshift\nVIA=sudo exec \"$@\"\n"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	server := hosttest.NewSSHD(t, hosttest.Options{Env: []string{"PATH=" + dir + ":" + os.Getenv("PATH")}})
	c := server.Config("cp-1")
	c.User = "ubuntu"
	h := dial(t, c)
	defer func() { _ = h.Close() }()
	r, err := h.Run(t.Context(), host.Cmd{Script: "echo $VIA"})
	if err != nil || string(r.Stdout) != "sudo\n" {
		t.Errorf("got %q, %v", r.Stdout, err)
	}
}

// TestLatency keeps the number of round trips of each operation small.
func TestLatency(t *testing.T) {
	const trip = 200 * time.Millisecond
	h := dial(t, hosttest.NewSSHD(t, hosttest.Options{Latency: trip}).Config("cp-1"))
	defer func() { _ = h.Close() }()
	path := filepath.Join(t.TempDir(), "f")
	for name, test := range map[string]struct {
		trips int
		do    func() error
	}{
		"run": {2, func() error { _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); return err }},
		"write": {3, func() error {
			return h.Write(t.Context(), []host.File{{Path: path, Mode: 0o600, Content: []byte("x")}})
		}},
	} {
		most := time.Duration(test.trips+1) * trip
		// One that is fast enough proves it; the machine may be busy during others.
		for deadline := time.Now().Add(time.Minute); ; {
			start := time.Now()
			if err := test.do(); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			if took < most {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s took %s, more than %d round trips of %s", name, took, test.trips, trip)
				break
			}
		}
	}
}

func TestNoLeak(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	for range 5 {
		h := dial(t, server.Config("cp-1"))
		if _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); err != nil {
			t.Fatal(err)
		}
		done := started(t, h)
		_ = h.Close()
		if err := <-done; err == nil {
			t.Error("a run survived the end of its connection")
		}
	}
	server.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var ours []string
		for _, g := range strings.Split(string(stacks), "\n\n")[1:] {
			if strings.Contains(g, "provision/host.") || strings.Contains(g, "crypto/ssh.") {
				ours = append(ours, g)
			}
		}
		if len(ours) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left:\n%s", len(ours), strings.Join(ours, "\n\n"))
		}
		runtime.Gosched() // goroutines can only be looked at
	}
}
