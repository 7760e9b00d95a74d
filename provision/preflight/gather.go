package preflight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

const (
	// gatherTimeout is how long a host may take to report.
	gatherTimeout = time.Minute
	// maxReport is how many bytes a host may report, and mostLines how many lines in the exchange.
	maxReport, mostLines = 4 << 20, 50_000
)

// errTooMuch ends a report that has no end.
var errTooMuch = fmt.Errorf("the host reports more than %d MiB, or %d lines", maxReport>>20, mostLines)

// Input is what a preflight is about.
type Input struct {
	Cluster  *spec.Cluster
	Machines []spec.Machine
	// Endpoint is where clients reach the API, and ExtraSANs the provider's names for it.
	Endpoint  string
	ExtraSANs []string
	// Ignore are names of checks that are left out.
	Ignore []string
	// Judged are the hosts about which findings are wanted; none is all. The others only take part in
	// the exchange.
	Judged []string
}

// Report is the result of a preflight.
type Report struct {
	Findings []Finding
	// Unread are the hosts that could not be asked, with the reasons.
	Unread map[string]error
	// Nodes are those that answered, in the order of the machines.
	Nodes []Node
}

// Run gathers the facts of hosts, all at the same time and in one session each, tries the ways between
// them, and evaluates the checks. It changes nothing: what it starts and writes on hosts is gone when it
// returns, or a minute later if it was killed.
func Run(ctx context.Context, in Input, hosts map[string]host.Host) (Report, error) {
	r := Report{Unread: map[string]error{}}
	for _, m := range in.Machines {
		if hosts[m.Name] != nil {
			r.Nodes = append(r.Nodes, Node{
				Name: m.Name, Role: m.Role, ProxyMode: in.Cluster.ProxyMode(m.Pool), Address: m.Address, SharedDisk: m.SharedDisk, Copies: m.Artifacts == "",
			})
		}
	}
	var mu sync.Mutex
	var group errgroup.Group
	for i := range r.Nodes {
		n := &r.Nodes[i]
		group.Go(func() error {
			facts, err := gather(ctx, hosts[n.Name], in, n)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				r.Unread[n.Name] = err
				return nil
			}
			n.Facts = facts
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by host
	if ctx.Err() != nil {
		return r, context.Cause(ctx)
	}
	r.Nodes = slices.DeleteFunc(r.Nodes, func(n Node) bool { return r.Unread[n.Name] != nil })
	s := &Situation{Cluster: in.Cluster, Nodes: r.Nodes, Endpoint: in.Endpoint, Names: serverNames(in)}
	if wantsWays(in.Ignore) {
		s.Ways = exchange(ctx, s, hosts)
	}
	r.Findings = Evaluate(s, in.Ignore)
	if len(in.Judged) > 0 {
		r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return !slices.Contains(in.Judged, f.Host) })
	}
	return r, context.Cause(ctx)
}

// wantsWays reports whether the ways are of use to any check.
func wantsWays(ignore []string) bool {
	return !slices.Contains(ignore, "ports-blocked") || !slices.Contains(ignore, "mtu")
}

// serverNames are what the API server's certificate will have.
func serverNames(in Input) []string {
	var names []string
	for _, q := range certs.Table(stack.CertInputs(in.Cluster, in.Machines, in.ExtraSANs)) {
		if !strings.HasPrefix(q.Name, "apiserver@") {
			continue
		}
		names = append(names, q.DNSNames...)
		for _, ip := range q.IPs {
			names = append(names, ip.String())
		}
		break
	}
	return names
}

// gather asks one host.
func gather(ctx context.Context, h host.Host, in Input, n *Node) (Facts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, gatherTimeout, fmt.Errorf("it has not reported within %s", gatherTimeout))
	defer cancel()
	out := &timed{}
	sent := time.Now()
	if _, err := h.Run(ctx, host.Cmd{Script: gatherScript(in, n), Stdout: out}); err != nil {
		return Facts{}, fmt.Errorf("preflight: %w", err)
	}
	text, first := out.read()
	f, err := ParseFacts(text)
	if err != nil {
		return Facts{}, fmt.Errorf("preflight %s: %w", h.Name(), err)
	}
	f.Sent, f.Heard = sent, first
	return f, nil
}

// timed keeps output, and when its first part came.
type timed struct {
	mu    sync.Mutex
	text  strings.Builder
	first time.Time
}

func (t *timed) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first.IsZero() {
		t.first = time.Now()
	}
	if t.text.Len()+len(p) > maxReport {
		return 0, errTooMuch
	}
	return t.text.Write(p)
}

func (t *timed) read() (string, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String(), t.first
}

func gatherScript(in Input, n *Node) string {
	var ports, directories, keys []string
	for _, u := range uses(in.Cluster, n.Role) {
		ports = append(ports, fmt.Sprintf("%04X", u.port))
	}
	for _, d := range dirs {
		directories = append(directories, d.path)
	}
	for _, l := range limits {
		keys = append(keys, l.key)
	}
	sync := ""
	if n.ControlPlane() && !n.SharedDisk && !slices.Contains(in.Ignore, "disk-latency") {
		sync = "/var/lib/etcd"
	}
	vars := map[string]string{
		"PORTS": strings.Join(ports, " "), "DIRS": strings.Join(directories, " "), "SYSCTLS": strings.Join(keys, " "), "SYNC": sync,
		"MODULES": strings.Join(modules(in.Cluster, n.ProxyMode), " "), "TOOLS": strings.Join(tools(n.ProxyMode), " "),
		"LEFTOVERS": strings.Join(leftoverPaths(), " "), "ADDRESS": "",
	}
	if n.Address.IsValid() {
		vars["ADDRESS"] = n.Address.String()
	}
	return assign(vars) + templates.PreflightScript()
}

// assign sets shell variables.
func assign(vars map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		fmt.Fprintf(&b, "%s=%s\n", name, host.Quote(vars[name]))
	}
	return b.String()
}
