package live

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

// LockFile is the lock that changes to a host hold (host.Config.Lock): a run that was killed may
// have left a script there that is still working.
const LockFile = "/run/slipway.lock"

// SSH is how machines are entered, besides what is known of each of them. It keeps the connections
// to bastions, one for each way that begins with the same bastions, for all machines; Close ends
// them. The fields are set before the first dial.
type SSH struct {
	// Shared has the passphrases and passwords that were asked for, so that several SSH ask once;
	// nil for one of its own.
	Shared *host.Shared
	// Agent is the path of the SSH agent's socket, for machines that name none; "" for none.
	Agent string
	// KnownHosts are the known_hosts files that decide about machines without pinned host keys that
	// name none.
	KnownHosts []string
	// Timeout is how long to wait for a machine that boots; 0 is a minute.
	Timeout time.Duration
	// Secret asks for the passphrase of a key, or the password of a user for sudo; nil if there is
	// nobody to ask. It is called for one question at a time, and once for each.
	Secret func(ctx context.Context, question string) (secret.Bytes, error)
	// Trust has the host keys that were accepted because spec.SSH.TrustOnFirstUse is set; the caller
	// pins them in later runs. nil is one of this SSH's own.
	Trust *Trust
	// Report says what a person should know of a connection, in a few words; it may be nil.
	Report func(machine, what string)

	own      host.Shared
	asking   sync.Mutex
	ownTrust Trust
	bastions bastions
}

// Dial connects to a machine, through its bastions.
func (s *SSH) Dial(ctx context.Context, m spec.Machine) (*host.SSH, error) {
	c := s.config(m.Name, m.SSH)
	c.Lock, c.Network = LockFile, s.network(m.SSH.Jumps)
	return host.Dial(ctx, c)
}

// DialAll connects to every machine in parallel, and becomes root there. All failures are reported,
// by machine, not just the first; the returned function closes the opened connections in any case,
// and those to bastions.
func (s *SSH) DialAll(ctx context.Context, machines []spec.Machine) (map[string]host.Host, func(), map[string]error) {
	conns, errs := make([]*host.SSH, len(machines)), make([]error, len(machines))
	var group errgroup.Group
	for i, m := range machines {
		group.Go(func() error {
			conns[i], errs[i] = s.enter(ctx, m)
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by machine
	hosts, failed := map[string]host.Host{}, map[string]error{}
	for i, m := range machines {
		if errs[i] != nil {
			failed[m.Name] = errs[i]
			continue
		}
		hosts[m.Name] = conns[i]
	}
	closeAll := func() {
		var closing sync.WaitGroup
		for _, h := range hosts {
			closing.Go(func() { _ = h.Close() }) // a round trip, behind bastions
		}
		closing.Wait()
		_ = s.Close()
	}
	return hosts, closeAll, failed
}

// enter connects to a machine and becomes root there.
func (s *SSH) enter(ctx context.Context, m spec.Machine) (*host.SSH, error) {
	conn, err := s.Dial(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := conn.Become(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// Close closes the connections to bastions. A later dial makes new ones.
func (s *SSH) Close() error {
	s.bastions.close()
	return nil
}

// config is what a machine, or a bastion, and this SSH together say, but for the way there.
func (s *SSH) config(name string, way spec.SSH) host.Config {
	c := host.Config{
		Name: name, Address: way.Address, User: way.User, IdentitiesOnly: way.IdentitiesOnly, Agent: way.Agent,
		HostKeys: way.HostKeys, KnownHosts: way.KnownHosts, HostKeyAlias: way.HostKeyAlias,
		ConnectTimeout: s.Timeout, Shared: s.Shared,
	}
	if c.Shared == nil {
		c.Shared = &s.own
	}
	for _, id := range way.Identities {
		c.Identities = append(c.Identities, host.Identity(id))
	}
	switch c.Agent {
	case "":
		c.Agent = s.Agent
	case "none":
		c.Agent = ""
	}
	if len(c.KnownHosts) == 0 {
		c.KnownHosts = s.KnownHosts
	}
	if s.Secret != nil {
		c.Secret = s.ask
	}
	if s.Report != nil {
		c.Report = func(what string) { s.Report(name, what) }
	}
	c.Trusted = way.TrustOnFirstUse
	if c.Trusted && len(c.HostKeys) == 0 {
		cmp.Or(s.Trust, &s.ownTrust).configure(&c)
	}
	return c
}

// ask asks one question at a time.
func (s *SSH) ask(ctx context.Context, question string) (secret.Bytes, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.Secret(ctx, question)
}

// network connects through bastions; nil if there are none.
func (s *SSH) network(way []spec.SSH) func(ctx context.Context, network, address string) (net.Conn, error) {
	if len(way) == 0 {
		return nil
	}
	way = slices.Clone(way)
	return func(ctx context.Context, _, address string) (conn net.Conn, err error) {
		b, err := s.bastion(ctx, way)
		if err == nil {
			conn, err = b.Jump(ctx, len(way), len(way), address)
		}
		return conn, err
	}
}
