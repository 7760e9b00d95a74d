package live

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// LockFile is what changes to a host hold a lock of (host.Config.Lock): a run that was killed may have left a script there
// that is still at work.
const LockFile = "/run/slipway.lock"

// Dial connects to a machine, whose host key is pinned.
func Dial(ctx context.Context, m spec.Machine, timeout time.Duration) (*host.SSH, error) {
	return host.Dial(ctx, host.Config{
		Name: m.Name, Address: m.SSHAddress, User: m.SSHUser, Key: m.SSHKey, HostKeys: m.HostKeys, ConnectTimeout: timeout,
		Lock: LockFile,
	})
}

// DialAll connects to every machine, side by side. All failures are reported, by machine, not just the first; what was
// opened is closed by the returned function in any case.
func DialAll(ctx context.Context, machines []spec.Machine, timeout time.Duration) (map[string]host.Host, func(), map[string]error) {
	conns, errs := make([]*host.SSH, len(machines)), make([]error, len(machines))
	var group errgroup.Group
	for i, m := range machines {
		group.Go(func() error {
			conns[i], errs[i] = Dial(ctx, m, timeout)
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
