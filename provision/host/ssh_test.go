package host_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

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

// TestLostConnection: what was under way ends with the reason, and what comes next connects again, once for all, and says so.
func TestLostConnection(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(*hosttest.SSHD)
		want string
	}{
		"cut":  {(*hosttest.SSHD).Drop, "the host closed it"},
		"dead": {(*hosttest.SSHD).Freeze, "no sign of life"},
	} {
		t.Run(name, func(t *testing.T) {
			server := hosttest.NewSSHD(t, hosttest.Options{})
			c := server.Config("cp-1")
			said := make(chan string, 10)
			c.KeepAlive, c.Report = 500*time.Millisecond, func(what string) { said <- what }
			h := dial(t, c)
			defer func() { _ = h.Close() }()
			done, ended := started(t, h), h.Done()
			test.lose(server)
			err := <-done
			var lost *host.LostError
			if !errors.As(err, &lost) {
				t.Fatalf("got %v", err)
			}
			names(t, err, server.Address, test.want)
			if <-ended; h.Err() == nil {
				t.Error("it is not said to be lost")
			}
			var wait sync.WaitGroup
			for range 5 {
				wait.Go(func() {
					if r, err := h.Run(t.Context(), host.Cmd{Script: "echo here"}); err != nil || string(r.Stdout) != "here\n" {
						t.Errorf("afterwards: %q, %v", r.Stdout, err)
					}
				})
			}
			wait.Wait()
			if n := server.Accepted(); n != 2 || h.Err() != nil {
				t.Errorf("%d connections, %v", n, h.Err())
			}
			close(said)
			if first, second := <-said, <-said; !strings.Contains(first, "connection lost ("+test.want) || second != "connected again" || len(said) > 0 {
				t.Errorf("reported %q, %q and %d more", first, second, len(said))
			}
		})
	}
}

// TestClosed: what was closed stays closed.
func TestClosed(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	h := dial(t, server.Config("cp-1"))
	done := started(t, h)
	_ = h.Close()
	for _, wait := range []func() error{
		func() error { return <-done },
		func() error { _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); return err },
		func() error { return h.Write(t.Context(), []host.File{{Path: "/nowhere", Mode: 0o600}}) },
		func() error { _, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:1"); return err },
	} {
		err := wait()
		if !errors.As(err, new(*host.LostError)) {
			t.Fatalf("got %v", err)
		}
		names(t, err, server.Address, net.ErrClosed.Error())
	}
	if n := server.Accepted(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestReboot is a machine that goes away, and comes back after a while, or does not, or as another.
func TestReboot(t *testing.T) {
	key, _ := hosttest.NewKey(t)
	other, _ := hosttest.NewKey(t)
	for name, test := range map[string]struct {
		comesBack ssh.Signer
		as        any
		says      string
	}{
		"comes back":           {key, nil, ""},
		"does not come back":   {nil, new(*host.UnreachableError), "no SSH at"},
		"comes back, another":  {other, new(*host.HostKeyError), "not the one expected"},
		"trusted, and another": {other, new(*host.HostKeyError), "not the one expected"},
	} {
		t.Run(name, func(t *testing.T) {
			first := hosttest.NewSSHD(t, hosttest.Options{HostKey: key})
			c := first.Config("cp-1")
			c.ConnectTimeout = time.Second
			if test.comesBack != nil {
				c.ConnectTimeout = time.Minute
			}
			if strings.HasPrefix(name, "trusted") {
				c.HostKeys, c.TrustOnFirstUse = nil, func(string) error { return nil }
			}
			h := dial(t, c)
			defer func() { _ = h.Close() }()
			done := started(t, h)
			first.Close()
			if err := <-done; !errors.As(err, new(*host.LostError)) {
				t.Errorf("what was under way: %v", err)
			}
			if test.comesBack != nil {
				client, err := ssh.ParsePrivateKey(first.Key.Reveal())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(300*time.Millisecond, func() {
					hosttest.NewSSHD(t, hosttest.Options{Address: first.Address, HostKey: test.comesBack, Client: client.PublicKey()})
				})
			}
			err := h.Connect(t.Context())
			if test.as == nil {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !errors.As(err, test.as) {
				t.Fatalf("got %v", err)
			}
			names(t, err, first.Address, test.says)
			if strings.Count(err.Error(), "cp-1: ") != 1 {
				t.Errorf("more than one clear error: %v", err)
			}
		})
	}
}

// TestAsTheConnectionEnds asks for something all the while that a dead connection is given up: x/crypto/ssh never answers
// what it is asked at a certain moment of that.
func TestAsTheConnectionEnds(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := hosttest.NewSSHD(t, hosttest.Options{})
	for range 20 {
		c := server.Config("cp-1")
		c.KeepAlive = 10 * time.Millisecond
		h := dial(t, c)
		server.Freeze()
		answers := make(chan error, 2)
		ask := func(one func() error) {
			var err error
			for range 50 {
				if err = one(); err != nil && !errors.As(err, new(*host.LostError)) && !errors.Is(err, syscall.ECONNREFUSED) {
					break
				}
				err = nil
			}
			answers <- err
		}
		go ask(func() error { _, err := h.Run(t.Context(), host.Cmd{Script: ":"}); return err })
		go ask(func() error { _, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:1"); return err })
		for range cap(answers) {
			select {
			case err := <-answers:
				if err != nil {
					t.Errorf("got %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it waits for the answer of a connection that has ended")
			}
		}
		_ = h.Close()
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

// TestRoundTrips counts them: what is on stdin waits until the script is known to run.
func TestRoundTrips(t *testing.T) {
	for name, test := range map[string]struct {
		trips int
		cmd   host.Cmd
	}{
		"nothing on stdin":   {2, host.Cmd{Script: "echo here"}},
		"something on stdin": {3, host.Cmd{Script: "cat", Stdin: strings.NewReader("here")}},
	} {
		server := hosttest.NewSSHD(t, hosttest.Options{Latency: 20 * time.Millisecond, Exec: func(_ string, in io.Reader, _, _ io.Writer) int {
			if test.cmd.Stdin != nil {
				_, _ = io.Copy(io.Discard, in)
			}
			return 0
		}})
		h := dial(t, server.Config("cp-1"))
		if _, err := h.Run(t.Context(), test.cmd); err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
		if got := server.RoundTrips(); got != test.trips {
			t.Errorf("%s: %d round trips, want %d", name, got, test.trips)
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
