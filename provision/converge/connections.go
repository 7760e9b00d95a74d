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

// noteConnections records the connections of units whose client certificates are about to be
// renewed, also on the host: `certs status` determines later which of them still exist.
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

// awaitPresented waits until no connection is left that presented an old client certificate: new
// connections use the certificate in the file (client-go reads it at every handshake, checks every
// 5 min whether it has changed, and then closes existing connections).
func (r *Runner) awaitPresented(ctx context.Context, s plan.Step) error {
	r.mu.Lock()
	before := r.connections[s.Host]
	r.mu.Unlock()
	if before.inodes == "" {
		return nil
	}
	r.report(s.Host, "waiting for connections with old certificates to end; clients check every 5 min")
	script := "CLIENTS=" + host.Quote(before.units) + "\nBEFORE=" + host.Quote(before.inodes) + "\n" + templates.ConnectionsScript()
	if _, err := r.Hosts[s.Host].Run(ctx, host.Cmd{Script: script}); err != nil {
		return fmt.Errorf("wait until %s presents its new client certificates: %w", s.Host, err)
	}
	return nil
}
