package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"slipway.dev/slipway/provision/secret"
)

const (
	defaultConnectTimeout = 60 * time.Second
	defaultKeepAlive      = 5 * time.Second
	// attempt bounds one TCP connection and the wait for the server's banner: a machine that boots
	// may swallow both.
	attempt      = 5 * time.Second
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
)

// Config has the settings to reach a host over SSH.
type Config struct {
	// Name is the node's name, as in the spec.
	Name string
	// Address is host:port.
	Address string
	// User, when it is not root, needs sudo without a password.
	User string
	// Key is the user's private key: PEM, without a passphrase. If empty, the keys of the agent are
	// offered.
	Key secret.Bytes
	// Agent is the path of the socket of an SSH agent; "" for none. It is asked only if there is no
	// Key.
	Agent string
	// HostKeys are the only public keys the host may show, in authorized_keys format.
	HostKeys []string
	// KnownHosts are the paths of known_hosts files, used if there are no HostKeys. Files that do
	// not exist are left out, and lines with @cert-authority are ignored.
	KnownHosts []string
	// TrustOnFirstUse, if set, is called for a host that is not in KnownHosts, with its key in
	// authorized_keys format; returning nil trusts it. The caller must store the key and pin it as
	// HostKeys from then on. If KnownHosts has another key for the host, it is refused without a
	// call.
	TrustOnFirstUse func(hostKey string) error
	// ConnectTimeout is how long to wait for a booting machine (default 60s), and for the
	// handshake.
	ConnectTimeout time.Duration
	// KeepAlive is the interval of keepalive requests (default 5s). If a host owes an answer and
	// has sent nothing for six intervals, the connection is closed.
	KeepAlive time.Duration
	// Lock is the path of a file on the host that keeps changes apart (Cmd.Exclusive, Write); "" for
	// none.
	Lock string
	// Patience is how long a script that another run has left running may take to finish before it
	// is terminated (default 1m).
	Patience time.Duration
}

// Dial connects to a host. As long as nothing there speaks SSH yet (connection refused, no route,
// silence, or the end of the connection before the server's banner), it tries again until
// ConnectTimeout: the machine may be booting. Everything else fails at once. Errors are
// *UnreachableError, *HostKeyError, *AuthError, *AgentError, or wrap ctx's cause.
func Dial(ctx context.Context, c Config) (*SSH, error) {
	c.User = cmp.Or(c.User, "root")
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	c.KeepAlive = cmp.Or(c.KeepAlive, defaultKeepAlive)
	start := time.Now()
	limit := start.Add(c.ConnectTimeout)
	trust, err := newVerifier(c)
	if err != nil {
		return nil, err
	}
	keys, done, err := signers(ctx, c, limit)
	if err != nil {
		return nil, err
	}
	defer done()
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		conn, err := connect(ctx, limit, c, keys, trust)
		if err == nil {
			return newSSH(c, conn), nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: connect to %s: %w (last seen: %w)", c.Name, c.Address, context.Cause(ctx), err)
		}
		var booting *transientError
		if !errors.As(err, &booting) {
			return nil, err
		}
		if time.Now().Add(backoff).After(limit) {
			return nil, &UnreachableError{c.Name, c.Address, time.Since(start), booting.error}
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: connect to %s: %w (last seen: %w)", c.Name, c.Address, context.Cause(ctx), booting.error)
		}
	}
}

// transientError is an error that is typical for a booting machine.
type transientError struct{ error }

func (e *transientError) Unwrap() error { return e.error }

// connect makes one attempt, which ends at limit.
func connect(ctx context.Context, limit time.Time, c Config, keys []ssh.Signer, trust *verifier) (*link, error) {
	start := time.Now()
	silence := earlier(start.Add(attempt), limit)
	dialer := net.Dialer{Deadline: silence}
	tcp, err := dialer.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		if booting(err) {
			return nil, &transientError{err}
		}
		return nil, &UnreachableError{c.Name, c.Address, time.Since(start), err}
	}
	conn := &bannerConn{Conn: tcp}
	// The deadline covers the silence before the banner; once it came, the whole time allowed.
	_ = conn.SetDeadline(silence)
	conn.onBanner = func() { _ = conn.SetDeadline(limit) }
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	algorithms := ssh.SupportedAlgorithms() // without the insecure ones that are in the default for old servers
	verified := false
	config := &ssh.ClientConfig{
		Config: ssh.Config{KeyExchanges: algorithms.KeyExchanges, Ciphers: algorithms.Ciphers, MACs: algorithms.MACs},
		User:   c.User,
		Auth:   []ssh.AuthMethod{ssh.PublicKeys(keys...)},
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			err := trust.callback(address, remote, key)
			verified = err == nil
			return err
		},
		HostKeyAlgorithms: trust.algorithms,
	}
	if len(config.HostKeyAlgorithms) == 0 {
		config.HostKeyAlgorithms = algorithms.HostKeys
	}
	s, channels, requests, err := ssh.NewClientConn(conn, c.Address, config)
	if err != nil {
		return nil, handshakeError(c, keys, trust, err, conn.banner.Load(), verified)
	}
	if !stop() { // too late: the connection is closed, or about to be
		_ = s.Close()
		return nil, fmt.Errorf("%s: connect to %s: %w", c.Name, c.Address, context.Cause(ctx))
	}
	_ = conn.SetDeadline(time.Time{})
	return &link{Client: ssh.NewClient(s, channels, requests), tcp: conn}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// handshakeError returns the typed error of a failed handshake, depending on its progress.
func handshakeError(c Config, keys []ssh.Signer, trust *verifier, err error, banner, verified bool) error {
	var wrongKey *HostKeyError
	var none *ssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &wrongKey):
		return wrongKey
	case !banner && booting(err):
		return &transientError{fmt.Errorf("connected, but no SSH answers: %w", err)}
	case errors.As(err, &none) && len(trust.want) > 0 && strings.Contains(none.What, "host key"):
		return trust.mismatch(c, "of type "+strings.Join(none.RequestedAlgorithms, " or "))
	// x/crypto/ssh has no type for either: a refusal, and the server's message that it has had
	// enough.
	case verified && (strings.Contains(err.Error(), "unable to authenticate") || strings.Contains(err.Error(), "ssh: disconnect")):
		return &AuthError{c.Name, c.Address, c.User, fingerprints(keys), err}
	}
	return fmt.Errorf("%s: SSH handshake with %s: %w", c.Name, c.Address, err)
}

// booting reports whether an error before the banner may be temporary.
func booting(err error) bool {
	for _, transient := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETUNREACH, syscall.ETIMEDOUT,
		io.EOF, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, context.DeadlineExceeded,
	} {
		if errors.Is(err, transient) {
			return true
		}
	}
	return false
}

// bannerConn notices the server's identification string, "SSH-2.0-..." at the beginning of a line
// (RFC 4253, section 4.2): lines before it are not SSH yet, for example a refusal for too many
// connections.
type bannerConn struct {
	net.Conn
	banner   atomic.Bool
	count    atomic.Int64
	onBanner func()
	seen     []byte
}

func (b *bannerConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.count.Add(int64(n))
	if !b.banner.Load() {
		b.seen = append(b.seen, p[:n]...)
		if bytes.HasPrefix(b.seen, []byte("SSH-")) || bytes.Contains(b.seen, []byte("\nSSH-")) {
			b.banner.Store(true)
			b.seen = nil
			b.onBanner()
		}
	}
	return n, err
}
