package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/hosttest"
)

// hop is a server as the spec names it.
func hop(s *hosttest.SSHD, user string) spec.SSH {
	return spec.SSH{
		Address: s.Address, User: user, Agent: "none", HostKeys: []string{s.HostKey},
		Identities: []spec.Identity{{Name: "id", Private: s.Key}},
	}
}

func machine(name string, s *hosttest.SSHD, jumps ...spec.SSH) spec.Machine {
	m := spec.Machine{Name: name, SSH: hop(s, "root")}
	m.SSH.Jumps = jumps
	return m
}

// TestThroughBastions: all machines share one connection to each bastion, and they end together.
func TestThroughBastions(t *testing.T) {
	first, second := hosttest.NewSSHD(t, hosttest.Options{User: "jump"}), hosttest.NewSSHD(t, hosttest.Options{User: "jump"})
	target := hosttest.NewSSHD(t, hosttest.Options{})
	var machines []spec.Machine
	for i := range 20 {
		machines = append(machines, machine(fmt.Sprintf("far-%d", i), target, hop(first, "jump"), hop(second, "jump")))
		machines = append(machines, machine(fmt.Sprintf("near-%d", i), target, hop(first, "jump")))
	}
	s := &SSH{}
	for round := 1; round <= 2; round++ {
		hosts, closeAll, failed := s.DialAll(t.Context(), machines)
		if len(failed) > 0 {
			t.Fatal(failed)
		}
		for name, h := range hosts {
			if r, err := h.Run(t.Context(), host.Cmd{Script: "echo here"}); err != nil || string(r.Stdout) != "here\n" {
				t.Errorf("%s: %q, %v", name, r.Stdout, err)
			}
		}
		if a, b, c := first.Accepted(), second.Accepted(), target.Accepted(); a != round || b != round || c != round*len(machines) {
			t.Errorf("connections: %d, %d, and %d to machines", a, b, c)
		}
		conn := s.bastions.open[wayKey(machines[0].SSH.Jumps)].conn
		closeAll()
		if conn.Err() == nil || len(s.bastions.open) != 0 {
			t.Error("a bastion's connection outlives those through it")
		}
	}
}

// TestLostBastion is dialed again by who needs it next.
func TestLostBastion(t *testing.T) {
	bastion, target := hosttest.NewSSHD(t, hosttest.Options{}), hosttest.NewSSHD(t, hosttest.Options{})
	m := machine("cp-1", target, hop(bastion, "jump"))
	s := &SSH{Timeout: 10 * time.Second}
	defer func() { _ = s.Close() }()
	h, err := s.Dial(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	lost := h.Done()
	bastion.Drop()
	<-lost
	_ = h.Close()
	var dials sync.WaitGroup
	for range 5 {
		dials.Go(func() {
			h, err := s.Dial(t.Context(), m)
			if err != nil {
				t.Error(err)
				return
			}
			_ = h.Close()
		})
	}
	dials.Wait()
	if n := bastion.Accepted(); n != 2 {
		t.Errorf("%d connections to the bastion", n)
	}
}

// closedPort is an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// quiet is the address of a server that accepts and says nothing.
func quiet(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// TestBrokenWays: whatever is wrong on the way is one error that names the machine and the hop, within the deadline.
func TestBrokenWays(t *testing.T) {
	good, target := hosttest.NewSSHD(t, hosttest.Options{}), hosttest.NewSSHD(t, hosttest.Options{})
	strict := hosttest.NewSSHD(t, hosttest.Options{User: "jump"})
	deaf := hosttest.NewSSHD(t, hosttest.Options{Dial: func(string) (net.Conn, error) {
		return nil, &ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "open failed"}
	}})
	hangs := hosttest.NewSSHD(t, hosttest.Options{Dial: func(string) (net.Conn, error) {
		<-t.Context().Done()
		return nil, errors.New("the test is over")
	}})
	at := func(s spec.SSH, address string) spec.SSH { s.Address = address; return s }
	wrongKey := hop(good, "jump")
	wrongKey.HostKeys = []string{target.HostKey}
	closed, silent := closedPort(t), quiet(t)
	is := func(err error, target any) bool { return errors.As(err, target) }
	for name, test := range map[string]struct {
		machine spec.Machine
		hop     int // that failed
		as      func(error) bool
		says    string
	}{
		"bastion unreachable": {
			machine("cp-1", target, at(hop(good, "jump"), closed)), 1,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "bastion " + closed + " (1 of 1): it cannot be reached: ",
		},
		"first bastion unreachable": {
			machine("cp-1", target, at(hop(good, "jump"), closed), hop(good, "jump")), 1,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "bastion " + closed + " (1 of 2): it cannot be reached: ",
		},
		"second bastion unreachable from the first": {
			machine("cp-1", target, hop(good, "jump"), at(hop(good, "jump"), closed)), 1,
			func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, "bastion " + good.Address + " (1 of 2): it cannot connect to " + closed,
		},
		"bastion says nothing": {
			machine("cp-1", target, at(hop(good, "jump"), silent)), 1,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "bastion " + silent + " (1 of 1): it cannot be reached: ",
		},
		"bastion with another host key": {
			machine("cp-1", target, hop(strict, "jump"), wrongKey), 2,
			func(err error) bool { return is(err, new(*host.HostKeyError)) }, "bastion " + good.Address + " (2 of 2): the host at " + good.Address + " shows the key",
		},
		"bastion refuses the user": {
			machine("cp-1", target, hop(strict, "other")), 1,
			func(err error) bool { return is(err, new(*host.AuthError)) }, `does not let user "other" in`,
		},
		"bastion does not forward": {
			machine("cp-1", target, hop(deaf, "jump")), 1,
			func(err error) bool { return is(err, new(*ssh.OpenChannelError)) }, "its sshd does not forward to " + target.Address + " (AllowTcpForwarding",
		},
		"machine unreachable from the bastion": {
			spec.Machine{Name: "cp-1", SSH: at(machine("", target, hop(good, "jump")).SSH, closed)},
			1,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "it cannot connect to " + closed,
		},
		"machine says nothing": {
			spec.Machine{Name: "cp-1", SSH: at(machine("", target, hop(good, "jump")).SSH, silent)},
			0,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "connected, but no SSH answers",
		},
		"machine swallows packets": {
			machine("cp-1", target, hop(hangs, "jump")), 1,
			func(err error) bool { return is(err, new(*host.UnreachableError)) }, "it cannot connect to " + target.Address,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &SSH{Timeout: 500 * time.Millisecond}
			defer func() { _ = s.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := s.Dial(ctx, test.machine)
			if err == nil || ctx.Err() != nil || !test.as(err) {
				t.Fatalf("got %v", err)
			}
			var jump *host.JumpError
			if test.hop > 0 && (!errors.As(err, &jump) || jump.Hop != test.hop || jump.Of != len(test.machine.SSH.Jumps)) {
				t.Errorf("it is not about hop %d: %+v", test.hop, jump)
			}
			if !strings.HasPrefix(err.Error(), "cp-1: ") || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %q, not %q", err, test.says)
			}
		})
	}
}

// TestSilenceThroughABastion: a machine that no longer answers is lost within its deadline, and so are deadlines of what is
// reached through it.
func TestSilenceThroughABastion(t *testing.T) {
	bastion, target := hosttest.NewSSHD(t, hosttest.Options{}), hosttest.NewSSHD(t, hosttest.Options{})
	s := &SSH{}
	defer func() { _ = s.Close() }()
	c := s.config("cp-1", hop(target, "root"))
	c.Network, c.KeepAlive = s.network([]spec.SSH{hop(bastion, "jump")}), 50*time.Millisecond
	h, err := host.Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	target.Freeze()
	_, err = h.Run(t.Context(), host.Cmd{Script: "echo here"})
	if !errors.As(err, new(*host.LostError)) || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("got %v", err)
	}
	if n := bastion.Accepted(); n != 1 {
		t.Errorf("%d connections to the bastion", n)
	}
}

// TestCancelledBehindABastion: who waits for a bastion that another dials leaves at once, and the other goes on.
func TestCancelledBehindABastion(t *testing.T) {
	var held atomic.Bool
	release := make(chan struct{})
	bastion := hosttest.NewSSHD(t, hosttest.Options{Accept: func(int, net.Conn) bool { held.Store(true); <-release; return true }})
	target := hosttest.NewSSHD(t, hosttest.Options{})
	s := &SSH{}
	defer func() { _ = s.Close() }()
	m := machine("cp-1", target, hop(bastion, "jump"))
	first, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	results := make(chan error, 2)
	dial := func(ctx context.Context) {
		h, err := s.Dial(ctx, m)
		if err == nil {
			_ = h.Close()
		}
		results <- err
	}
	go dial(first)
	for deadline := time.Now().Add(time.Minute); !held.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	go dial(t.Context())
	for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) {
		s.bastions.mu.Lock()
		waiting = s.bastions.open[wayKey(m.SSH.Jumps)].waiting
		s.bastions.mu.Unlock()
	}
	cancel(cause)
	if err := <-results; !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-results; err != nil {
		t.Error(err)
	}
}

// TestTrustOnFirstUse: the first key of a machine, and of a bastion, is handed on, and then is the only one.
func TestTrustOnFirstUse(t *testing.T) {
	bastion, target := hosttest.NewSSHD(t, hosttest.Options{}), hosttest.NewSSHD(t, hosttest.Options{})
	m := machine("cp-1", target, hop(bastion, "jump"))
	m.SSH.HostKeys, m.SSH.TrustOnFirstUse = nil, true
	m.SSH.Jumps[0].HostKeys, m.SSH.Jumps[0].TrustOnFirstUse = nil, true
	trust := &Trust{}
	none := []string{filepath.Join(t.TempDir(), "none")}
	s := &SSH{KnownHosts: none, Trust: trust}
	for range 2 {
		h, err := s.Dial(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = h.Close(), s.Close()
	}
	if want := map[string]string{target.Address: target.HostKey, bastion.Address: bastion.HostKey}; !maps.Equal(trust.Keys(), want) {
		t.Errorf("trusted %v, want %v", trust.Keys(), want)
	}
	// Another one knows what the first has accepted.
	trust.keys[target.Address] = bastion.HostKey
	if _, err := (&SSH{KnownHosts: none, Trust: trust}).Dial(t.Context(), m); !errors.As(err, new(*host.HostKeyError)) {
		t.Errorf("another key at the same address: %v", err)
	}
	if err := trust.accept(target.Address, target.HostKey); err == nil || !strings.Contains(err.Error(), "two host keys") {
		t.Errorf("two keys at the same time: %v", err)
	}
	if _, err := (&SSH{KnownHosts: none}).Dial(t.Context(), m); err != nil {
		t.Errorf("one that knows nothing: %v", err)
	}
}

// TestOwnFilesOfAMachine: what a machine names counts instead of the user's own.
func TestOwnFilesOfAMachine(t *testing.T) {
	server := hosttest.NewSSHD(t, hosttest.Options{})
	m := machine("cp-1", server)
	m.SSH.HostKeys, m.SSH.HostKeyAlias = nil, "node.example"
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte("node.example "+server.HostKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.SSH.KnownHosts = []string{file}
	s := &SSH{KnownHosts: []string{"/no/such/file"}, Agent: "/no/such/agent"}
	h, err := s.Dial(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Close()
	m.SSH.Identities = nil
	if _, err = s.Dial(t.Context(), m); !errors.As(err, new(*host.AgentError)) || !strings.Contains(err.Error(), "neither a private key nor an SSH agent") {
		t.Errorf("agent none: %v", err)
	}
	m.SSH.Agent = "/no/agent/of/its/own"
	if _, err = s.Dial(t.Context(), m); !errors.As(err, new(*host.AgentError)) || !strings.Contains(err.Error(), m.SSH.Agent) {
		t.Errorf("an agent of its own: %v", err)
	}
}
