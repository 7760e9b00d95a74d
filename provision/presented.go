package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/templates"
)

// presentedTimeout is how long connections of before may live: client-go looks at its certificate every 5 min.
const presentedTimeout = 7 * time.Minute

// clientTable are the units that show client certificates to others on connections that last, and to which port.
// Clients of etcd are not among them: their connections last for as long as the process, and are not looked at again.
// Nor is front-proxy-client: its connections go to any port of any pod. API servers read it when its file changes, or
// within a minute, and take new connections for every request that begins then (k8s.io/kube-aggregator/pkg/apiserver,
// updateAPIService); under another authority they restart (unitTable).
var clientTable = []struct {
	unit, cert string
	port       int
	// mixed says that the unit has other connections to there, which show tokens and last: those of controllers.
	mixed bool
}{
	{"kube-apiserver.service", pkiDir + "/apiserver-kubelet-client.crt", kubeletPort, false},
	{"kube-controller-manager.service", pkiDir + "/controller-manager.crt", apiPort, true},
	{"kube-scheduler.service", pkiDir + "/scheduler.crt", apiPort, false},
	{kubeletService, "/var/lib/kubelet/pki/kubelet-client.crt", balancerPort, false},
	{"kube-proxy.service", pkiDir + "/kube-proxy.crt", balancerPort, false},
	{"flanneld.service", pkiDir + "/flannel.crt", balancerPort, false},
}

// clients are the rows of clientTable whose certificates changes renew, as connections.sh wants to have them.
func clients(changes []Change) string {
	var lines []string
	for _, row := range clientTable {
		if !slices.ContainsFunc(changes, func(c Change) bool { return c.Kind == FileChange && c.Action == Update && c.Name == row.cert }) {
			continue
		}
		which := "all"
		if row.mixed {
			which = "some"
		}
		lines = append(lines, fmt.Sprintf("%s %04X %s", row.unit, row.port, which))
	}
	return strings.Join(lines, "\n")
}

// noteConnections remembers the connections of units whose client certificates are about to be renewed.
func (r *Runner) noteConnections(ctx context.Context, s Step) error {
	units := clients(s.Changes)
	if r.Prove != ProveClients || units == "" {
		return nil
	}
	script := "CLIENTS=" + host.Quote(units) + "\n" + templates.ConnectionsScript()
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
func (r *Runner) awaitPresented(ctx context.Context, s Step) error {
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
