package converge

import (
	"context"
	"fmt"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// noteConnections remembers the connections of units whose client certificates are about to be renewed, also on the host:
// `certs status` finds out later which of them are still there.
func (r *Runner) noteConnections(ctx context.Context, s plan.Step) error {
	units := plan.Clients(s.Changes)
	if units == "" {
		return nil
	}
	script := "CLIENTS=" + host.Quote(units) + "\nKEEP=" + stack.ConnectionsDir + "\n" + templates.ConnectionsScript()
	result, err := r.Hosts[s.Host].Run(ctx, host.Cmd{Script: script})
	if err != nil {
		return fmt.Errorf("list the connections of %s: %w", s.Host, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connections == nil {
		r.connections = map[string]connections{}
	}
	r.connections[s.Host] = connections{units, strings.TrimSpace(string(result.Stdout))}
	return nil
}

// connections of some units, by the inodes of their sockets.
type connections struct{ units, inodes string }

// awaitPresented waits until no connection is left that showed a client certificate of before: whatever is dialed then
// is dialed with the certificate that is in its file (client-go asks for it at every handshake, looks every 5 min whether
// it is another, and then ends the connections that there are).
func (r *Runner) awaitPresented(ctx context.Context, s plan.Step) error {
	r.mu.Lock()
	before := r.connections[s.Host]
	r.mu.Unlock()
	if before.inodes == "" {
		return nil
	}
	r.report(s.Host, "waiting for connections with certificates of before to end; clients look every 5 min")
	script := "CLIENTS=" + host.Quote(before.units) + "\nBEFORE=" + host.Quote(before.inodes) + "\n" + templates.ConnectionsScript()
	if _, err := r.Hosts[s.Host].Run(ctx, host.Cmd{Script: script}); err != nil {
		return fmt.Errorf("wait until %s shows its new client certificates: %w", s.Host, err)
	}
	return nil
}
