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
	// Address is host:port, as seen from where Network connects from.
	Address string
	// Network makes the TCP connection; nil is net.Dialer. It bounds itself, because it may have to
	// connect to bastions first, and may return a *JumpError.
	Network func(ctx context.Context, network, address string) (net.Conn, error)
	// User to log in as, default root. Another needs sudo, with or without a password, unless
	// nothing is run there.
	User string
	// Identities are keys to log in with, in the order in which they are offered.
	Identities []Identity
	// IdentitiesOnly means that of the agent's keys only those in Identities are offered. If it is
	// false, its others are offered too, before keys that only files have.
	IdentitiesOnly bool
	// Agent is the path of the socket of an SSH agent; "" for none.
	Agent string
	// Secret asks a person for a passphrase or a password, or reads it where the person has put it;
	// nil if there is nobody to ask. The time that it takes is not part of ConnectTimeout.
	Secret func(ctx context.Context, question string) (secret.Bytes, error)
	// Shared has what dials have in common; nil for nothing.
	Shared *Shared
	// HostKeys are the only public keys the host may show, in authorized_keys format.
	HostKeys []string
	// KnownHosts are the paths of known_hosts files, used if there are no HostKeys. Files that do
	// not exist are left out, and malformed lines are ignored. A host may also show a certificate
	// of an authority (@cert-authority) that has its name as a principal.
	KnownHosts []string
	// HostKeyAlias is looked up in KnownHosts, and is the principal of certificates, instead of
	// Address; empty for Address.
	HostKeyAlias string
	// Trusted means that HostKeys were trusted on first use, for errors.
	Trusted bool
	// TrustOnFirstUse, if set, is called for a host that is not in KnownHosts, with its key in
	// authorized_keys format; returning nil trusts it. The caller must store the key and pin it as
	// HostKeys from then on. If KnownHosts has another key for the host, it is refused without a
	// call.
	TrustOnFirstUse func(hostKey string) error
	// Carrier means that the connections of many other hosts go through this one: what they send at
	// the same time is sent together.
	Carrier bool
	// Report says what a person should know of the connection, in a few words; it may be nil.
	Report func(what string)
	// ConnectTimeout is how long to wait for a booting machine (default 60s), for the handshake, and
	// for sudo to say whether it makes the user root.
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

// Format keeps what Identities and functions hold out of every printing verb.
func (c Config) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (%s@%s)", c.Name, c.User, c.Address)
}

func (c Config) withDefaults() Config {
	c.User = cmp.Or(c.User, "root")
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	c.KeepAlive = cmp.Or(c.KeepAlive, defaultKeepAlive)
	return c
}

// Dial connects to a host. As long as nothing there speaks SSH yet (connection refused, no route,
// silence, or the end of the connection before the server's banner), it tries again until
// ConnectTimeout: the machine may be booting. Everything else fails at once. Errors are
// *UnreachableError, *JumpError, *HostKeyError, *AuthError, *AgentError, *PassphraseError, or wrap
// ctx's cause.
func Dial(ctx context.Context, c Config) (*SSH, error) {
	c = c.withDefaults()
	accepted := ""
	if trust := c.TrustOnFirstUse; trust != nil {
		c.TrustOnFirstUse = func(hostKey string) error {
			err := trust(hostKey)
			if err == nil {
				accepted = hostKey
			}
			return err
		}
	}
	l, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	if accepted != "" { // when it connects again, that key is the only one
		c.HostKeys, c.TrustOnFirstUse = []string{accepted}, nil
	}
	return newSSH(c, l), nil
}

// dialing is one dial: attempts until one succeeds, or none can.
type dialing struct {
	Config
	ctx   context.Context
	limit time.Time
	trust *verifier
	offering
	// conn is that of the current attempt.
	conn net.Conn
	// paused means that the current attempt waited for a person: the host may have lost patience.
	paused bool
	// refusal is why a key that the host accepted cannot sign. x/crypto/ssh drops it.
	refusal error
}

func connect(ctx context.Context, c Config) (*link, error) {
	start := time.Now()
	d := &dialing{Config: c, ctx: ctx, limit: start.Add(c.ConnectTimeout)}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		l, err := d.attempt()
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: connect to %s: %w (last seen: %w)", c.Name, c.Address, context.Cause(ctx), err)
		}
		var booting *transientError
		if !errors.As(err, &booting) {
			return nil, err
		}
		if time.Now().Add(backoff).After(d.limit) {
			return nil, &UnreachableError{c.Name, c.Address, time.Since(start), booting.error}
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: connect to %s: %w (last seen: %w)", c.Name, c.Address, context.Cause(ctx), booting.error)
		}
	}
}

// prepare finds out how the host is verified and entered.
func (d *dialing) prepare() (err error) {
	if d.trust, err = newVerifier(d.Config); err != nil {
		return err
	}
	if d.offering, err = d.offers(); err != nil {
		return err
	}
	if len(d.keys) == 0 {
		return &AgentError{d.Name, d.Agent, d.lacking, d.agentErr}
	}
	return nil
}

// pause suspends the time limit until resume is called, because a person is asked.
func (d *dialing) pause() (resume func()) {
	start := time.Now()
	d.paused = true
	if d.conn != nil {
		_ = d.conn.SetDeadline(time.Time{})
	}
	return func() {
		d.limit = d.limit.Add(time.Since(start))
		if d.conn != nil {
			_ = d.conn.SetDeadline(d.limit)
		}
	}
}

// transientError is an error that is typical for a booting machine.
type transientError struct{ error }

func (e *transientError) Unwrap() error { return e.error }

// tcp makes the connection under SSH.
func (d *dialing) tcp() (net.Conn, error) {
	start := time.Now()
	var conn net.Conn
	var err error
	if d.Network != nil {
		if conn, err = d.Network(d.ctx, "tcp", d.Address); err == nil {
			d.limit = d.limit.Add(time.Since(start)) // bastions have limits of their own
		}
	} else {
		conn, err = (&net.Dialer{Deadline: earlier(start.Add(attempt), d.limit)}).DialContext(d.ctx, "tcp", d.Address)
	}
	var jump *JumpError
	switch {
	case err == nil:
		return conn, nil
	case errors.As(err, new(*LostError)): // the bastion's; the next attempt connects to it again
		return nil, &transientError{err}
	case errors.As(err, &jump) && (jump.To != d.Address || !booting(err)): // bastions were waited for
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	case booting(err):
		return nil, &transientError{err}
	}
	return nil, &UnreachableError{d.Name, d.Address, time.Since(start), err}
}

// attempt is one connection and its handshake.
func (d *dialing) attempt() (*link, error) {
	tcp, err := d.tcp()
	if err != nil {
		return nil, err
	}
	if d.Carrier {
		tcp = newGathered(tcp)
	}
	conn := &bannerConn{Conn: tcp}
	d.conn, d.paused = conn, false
	// The deadline covers the silence before the banner; once it came, the whole time allowed.
	_ = conn.SetDeadline(earlier(time.Now().Add(attempt), d.limit))
	conn.onBanner = func() { _ = conn.SetDeadline(d.limit) }
	stop := context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	defer stop()

	algorithms := ssh.SupportedAlgorithms() // without the insecure ones that are in the default for old servers
	verified := false
	var signers []ssh.Signer
	for _, k := range d.keys {
		signers = append(signers, k.Signer)
	}
	config := &ssh.ClientConfig{
		Config: ssh.Config{KeyExchanges: algorithms.KeyExchanges, Ciphers: algorithms.Ciphers, MACs: algorithms.MACs},
		User:   d.User,
		Auth:   []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: func(address string, remote net.Addr, key ssh.PublicKey) error {
			err := d.trust.callback(address, remote, key)
			verified = err == nil
			return err
		},
		HostKeyAlgorithms: d.trust.algorithms,
	}
	if len(config.HostKeyAlgorithms) == 0 {
		config.HostKeyAlgorithms = algorithms.HostKeys
	}
	s, channels, requests, err := ssh.NewClientConn(conn, d.Address, config)
	if err != nil {
		_ = conn.Close()
		return nil, d.handshakeError(err, conn.banner.Load(), verified)
	}
	if !stop() { // too late: the connection is closed, or about to be
		_ = s.Close()
		return nil, fmt.Errorf("%s: connect to %s: %w", d.Name, d.Address, context.Cause(d.ctx))
	}
	_ = conn.SetDeadline(time.Time{})
	go refuseAll(requests, channels)
	return &link{Client: &ssh.Client{Conn: s}, tcp: conn}, nil
}

// refuseAll refuses what a server asks of a client, until the connection ends: nothing is served.
// ssh.NewClient does the same with three goroutines, which a thousand hosts notice.
func refuseAll(requests <-chan *ssh.Request, channels <-chan ssh.NewChannel) {
	for requests != nil || channels != nil {
		select {
		case r, ok := <-requests:
			if !ok {
				requests = nil
				continue
			}
			_ = r.Reply(false, nil)
		case c, ok := <-channels:
			if !ok {
				channels = nil
				continue
			}
			_ = c.Reject(ssh.UnknownChannelType, "unknown channel type: "+c.ChannelType())
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// handshakeError returns the typed error of a failed handshake, depending on its progress.
func (d *dialing) handshakeError(err error, banner, verified bool) error {
	var wrongKey *HostKeyError
	var none *ssh.AlgorithmNegotiationError
	// x/crypto/ssh has no type for either: a refusal, and the server's message that it has had
	// enough.
	refused, enough := strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "ssh: disconnect")
	switch {
	case errors.As(err, &wrongKey):
		return wrongKey
	case d.refusal != nil:
		return d.refusal
	case !banner && booting(err):
		return &transientError{fmt.Errorf("connected, but no SSH answers: %w", err)}
	case errors.As(err, &none) && len(d.trust.want) > 0 && strings.Contains(none.What, "host key"):
		return d.trust.mismatch(d.Config, "of type "+strings.Join(none.RequestedAlgorithms, " or "))
	case d.paused && !refused: // it waited for a person for too long; the key is there now
		return &transientError{fmt.Errorf("it ended the connection while a passphrase was asked for: %w", err)}
	case verified && (refused || enough):
		return &AuthError{
			Host: d.Name, Address: d.Address, User: d.User, Keys: fingerprints(d.keys), Lacking: d.lacking, Agent: d.agentErr,
			TooMany: strings.Contains(strings.ToLower(err.Error()), "too many authentication failures"), Err: err,
		}
	}
	return fmt.Errorf("%s: SSH handshake with %s: %w", d.Name, d.Address, err)
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
	seen     []byte // the end of what came
	later    bool   // it is not all that came
}

func (b *bannerConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.count.Add(int64(n))
	if !b.banner.Load() {
		b.seen = append(b.seen, p[:n]...)
		const begins = "\nSSH-"
		if !b.later && bytes.HasPrefix(b.seen, []byte(begins[1:])) || bytes.Contains(b.seen, []byte(begins)) {
			b.banner.Store(true)
			b.seen = nil
			b.onBanner()
		} else if over := len(b.seen) - len(begins); over > 0 { // what is no SSH may have no end
			b.seen, b.later = append(b.seen[:0], b.seen[over:]...), true
		}
	}
	return n, err
}
