package hosttest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
)

// Options bend an SSHD. The zero value is a server that works.
type Options struct {
	// HostKey is what the server shows; nil for a new ed25519 key.
	HostKey ssh.Signer
	// HostCertificate is shown to who asks for one; nil for none.
	HostCertificate ssh.Signer
	// RefuseKeys lets nobody in.
	RefuseKeys bool
	// Latency is added to each round trip.
	Latency time.Duration
	// InFlight is how many packets may be on their way in one direction; 0 is for 64, which are enough for one session.
	InFlight int
	// MaxSessions of one connection, beyond which sessions are refused as OpenSSH does; 0 is 10.
	MaxSessions int
	// Env is added to the environment of commands, for example a PATH with a sudo in it.
	Env []string
	// Accept, when set, sees each connection before the banner; the server drops it when it returns false.
	Accept func(n int, conn net.Conn) bool
	// Address to listen on; empty for a free port of 127.0.0.1.
	Address string
	// Client is whose key is let in, or the authority of who is let in by a certificate; nil for a new key, SSHD.Key.
	Client ssh.PublicKey
	// User is who is let in; empty for anybody.
	User string
	// MaxAuthTries is how many keys may be offered; 0 is 6.
	MaxAuthTries int
	// Exec, when set, answers commands in the place of this machine's sh, and gives their exit status.
	Exec func(line string, stdin io.Reader, stdout, stderr io.Writer) int
	// Dial, when set, makes the connections of direct-tcpip, to "host:port". An *ssh.OpenChannelError is what the client gets.
	Dial func(address string) (net.Conn, error)
}

// SSHD is an SSH server inside the test. Commands run on this machine, as the user of the test, through sh.
type SSHD struct {
	// Address is host:port.
	Address string
	// HostKey is in authorized_keys format.
	HostKey string
	// Key is the private key that is let in, whoever the user; nil where Options.Client has it.
	Key secret.Bytes

	options  Options
	config   *ssh.ServerConfig
	listener net.Listener
	accepted atomic.Int32
	sessions atomic.Int32
	busiest  atomic.Int32
	serving  sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]*gate
	groups  map[int]bool
	trips   []*trips
	offered []string
}

// NewSSHD starts a server that ends with the test, with whatever it started.
func NewSSHD(t testing.TB, o Options) *SSHD {
	t.Helper()
	if o.HostKey == nil {
		o.HostKey, _ = NewKey(t)
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 10
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	var key secret.Bytes
	if o.Client == nil {
		var client ssh.Signer
		client, key = NewKey(t)
		o.Client = client.PublicKey()
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{
		Address: listener.Addr().String(), HostKey: authorized(o.HostKey.PublicKey()), Key: key,
		options: o, listener: listener, conns: map[net.Conn]*gate{}, groups: map[int]bool{},
	}
	allowed := string(o.Client.Marshal())
	s.config = &ssh.ServerConfig{
		MaxAuthTries: o.MaxAuthTries,
		PublicKeyCallback: func(who ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			s.mu.Lock()
			s.offered = append(s.offered, authorized(key))
			s.mu.Unlock()
			if cert, ok := key.(*ssh.Certificate); ok {
				key = cert.SignatureKey
			}
			if o.RefuseKeys || string(key.Marshal()) != allowed || o.User != "" && who.User() != o.User {
				return nil, errors.New("key not allowed")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(o.HostKey)
	if o.HostCertificate != nil {
		s.config.AddHostKey(o.HostCertificate)
	}
	s.serving.Go(s.serve)
	t.Cleanup(s.Close)
	return s
}

// NewKey makes an ed25519 key pair: as a signer, and as the PEM of its private half.
func NewKey(t testing.TB) (ssh.Signer, secret.Bytes) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func authorized(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// Config reaches the server, its key pinned.
func (s *SSHD) Config(name string) host.Config {
	return host.Config{Name: name, Address: s.Address, User: "root", Identities: []host.Identity{{Private: s.Key}}, HostKeys: []string{s.HostKey}}
}

// Offered are the keys that clients have offered, or signed with, in authorized_keys format; it forgets them.
func (s *SSHD) Offered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.offered
	s.offered = nil
	return all
}

// Accepted is how many connections came in.
func (s *SSHD) Accepted() int { return int(s.accepted.Load()) }

// Busiest is how many sessions there were at most at one time.
func (s *SSHD) Busiest() int { return int(s.busiest.Load()) }

// RoundTrips is how many a connection needed at the most after its handshake, one after another: however often the
// client, having received something, sent what the server could not go on without. Keepalives, which nobody waits for,
// do not count, and nothing does without Latency.
func (s *SSHD) RoundTrips() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := 0
	for _, c := range s.trips {
		most = max(most, c.total())
	}
	return most
}

// Drop cuts all connections, as a machine does that goes away.
func (s *SSHD) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Freeze makes the server read and write no more, as a machine does that lost its power or its network.
func (s *SSHD) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.conns {
		g.freeze()
	}
}

// Close ends the server, its connections and what they run.
func (s *SSHD) Close() {
	_ = s.listener.Close()
	s.Drop()
	s.mu.Lock()
	for group := range s.groups {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *SSHD) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		n := int(s.accepted.Add(1))
		s.serving.Go(func() {
			defer func() { _ = conn.Close() }()
			if s.options.Accept == nil || s.options.Accept(n, conn) {
				s.connection(conn)
			}
		})
	}
}

func (s *SSHD) connection(tcp net.Conn) {
	g := newGate(tcp)
	s.mu.Lock()
	s.conns[g] = g
	s.mu.Unlock()
	defer func() {
		_ = g.Close()
		s.mu.Lock()
		delete(s.conns, g)
		s.mu.Unlock()
	}()
	var wire net.Conn = g
	count := &trips{}
	if s.options.Latency > 0 {
		wire = s.far(g, count)
		defer func() { _ = wire.Close() }()
	}
	conn, channels, requests, err := ssh.NewServerConn(wire, s.config)
	if err != nil {
		return
	}
	count.begin()
	s.mu.Lock()
	s.trips = append(s.trips, count)
	s.mu.Unlock()
	s.serving.Go(func() {
		for r := range requests {
			if r.Type == "keepalive@openssh.com" {
				count.ignore()
			}
			_ = r.Reply(false, nil)
		}
	})
	var sessions atomic.Int32
	for c := range channels {
		count.wait()
		switch c.ChannelType() {
		case "session":
			if int(sessions.Load()) >= s.options.MaxSessions {
				_ = c.Reject(ssh.ConnectionFailed, "open failed")
				continue
			}
			sessions.Add(1)
			s.serving.Go(func() {
				defer sessions.Add(-1)
				s.session(c, count)
			})
		case "direct-tcpip":
			s.serving.Go(func() { s.forward(c, count) })
		default:
			_ = c.Reject(ssh.UnknownChannelType, "")
		}
	}
	_ = conn.Wait()
}

func (s *SSHD) session(c ssh.NewChannel, count *trips) {
	now := s.sessions.Add(1)
	defer s.sessions.Add(-1)
	for b := s.busiest.Load(); now > b && !s.busiest.CompareAndSwap(b, now); b = s.busiest.Load() {
		continue
	}
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer func() { _ = channel.Close() }()
	for r := range requests {
		count.wait()
		var command struct{ Line string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
			_ = r.Reply(false, nil)
			continue
		}
		s.serving.Go(func() {
			for r := range requests {
				_ = r.Reply(false, nil)
			}
		})
		s.exec(channel, r, command.Line, waiting{channel, count})
		return
	}
}

// exec runs a command in a process group of its own. Like OpenSSH it lets it live on when the connection is lost.
func (s *SSHD) exec(channel ssh.Channel, r *ssh.Request, line string, stdin io.Reader) {
	if s.options.Exec != nil {
		_ = r.Reply(true, nil)
		exited(channel, s.options.Exec(line, stdin, channel, channel.Stderr()))
		return
	}
	cmd := exec.Command("sh", "-c", line) //nolint:gosec // that is what an SSH server does
	cmd.Env = append(os.Environ(), s.options.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = r.Reply(err == nil, nil)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.groups[cmd.Process.Pid] = true
	s.mu.Unlock()
	s.serving.Go(func() {
		_, _ = io.Copy(in, stdin)
		_ = in.Close()
	})
	_ = cmd.Wait()
	s.mu.Lock()
	delete(s.groups, cmd.Process.Pid)
	s.mu.Unlock()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		name := map[syscall.Signal]ssh.Signal{syscall.SIGKILL: ssh.SIGKILL, syscall.SIGTERM: ssh.SIGTERM}[status.Signal()]
		payload := ssh.Marshal(struct {
			Signal     string
			Core       bool
			Error, Tag string
		}{Signal: string(name)})
		_, _ = channel.SendRequest("exit-signal", false, payload)
		return
	}
	exited(channel, cmd.ProcessState.ExitCode())
}

// exited tells how a command ended.
func exited(channel ssh.Channel, code int) {
	payload := ssh.Marshal(struct{ Status uint32 }{uint32(code)}) //nolint:gosec // 0 to 255
	_, _ = channel.SendRequest("exit-status", false, payload)
}
