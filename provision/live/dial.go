package live

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
)

// LockFile is the lock that changes to a host hold (host.Config.Lock): a run that was killed may
// have left a script there that is still working.
const LockFile = "/run/slipway.lock"

// SSH is how machines are entered, besides what is known of each of them.
type SSH struct {
	// Agent is the path of the SSH agent's socket, for machines without a key of their own; "" for none.
	Agent string
	// KnownHosts are the known_hosts files that decide about machines without pinned host keys.
	KnownHosts []string
	// Timeout is how long to wait for a machine that boots; 0 is a minute.
	Timeout time.Duration
}

// Dial connects to a machine.
func (s SSH) Dial(ctx context.Context, m spec.Machine) (*host.SSH, error) {
	var key secret.Bytes
	if len(m.SSH.Identities) > 0 {
		key = m.SSH.Identities[0].Private
	}
	return host.Dial(ctx, host.Config{
		Name: m.Name, Address: m.SSH.Address, User: m.SSH.User, Key: key, HostKeys: m.SSH.HostKeys,
		Agent: s.Agent, KnownHosts: s.KnownHosts, ConnectTimeout: s.Timeout, Lock: LockFile,
	})
}

// DialAll connects to every machine in parallel. All failures are reported, by machine, not just
// the first; the returned function closes the opened connections in any case.
func (s SSH) DialAll(ctx context.Context, machines []spec.Machine) (map[string]host.Host, func(), map[string]error) {
	conns, errs := make([]*host.SSH, len(machines)), make([]error, len(machines))
	var group errgroup.Group
	for i, m := range machines {
		group.Go(func() error {
			conns[i], errs[i] = s.Dial(ctx, m)
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by machine
	hosts, failed := map[string]host.Host{}, map[string]error{}
	for i, m := range machines {
		if errs[i] == nil {
			hosts[m.Name] = conns[i]
		} else {
			failed[m.Name] = errs[i]
		}
	}
	closeAll := func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}
	return hosts, closeAll, failed
}
