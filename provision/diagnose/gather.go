package diagnose

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

const (
	// gatherTimeout bounds everything: what has not answered by then is evidence too.
	gatherTimeout = 45 * time.Second
	// hostTimeout bounds one host's report, apiTimeout the API's part, and probeTimeout one attempt
	// to connect: TCP repeats its first packet after 1 s and 3 s.
	hostTimeout  = 30 * time.Second
	apiTimeout   = 20 * time.Second
	probeTimeout = 4 * time.Second
)

// Source is where evidence comes from.
type Source struct {
	// Input has the spec, the machines and the PKI, with its Requests; without a PKI there is no
	// cluster to ask.
	Input stack.Input
	Infra *spec.Infrastructure
	// Hosts are the connected machines; Unreachable has the reasons, by name, why a machine is not
	// among them.
	Hosts       map[string]host.Host
	Unreachable map[string]error
	// Only restricts hosts to these nodes; empty is all. API and etcd are asked in any case.
	Only []string
	// Drift computes what a plan would change; nil is unknown.
	Drift func(context.Context) (map[string][]string, error)
	// Lines is how many lines of each unit's log are kept for an archive; 0 is none, and no other
	// texts.
	Lines int
	// FileArg is added to the commands of findings: " -f FILE", or empty.
	FileArg string
}

// Gathered is the evidence, with what only an archive needs.
type Gathered struct {
	Evidence Evidence
	// Texts of hosts by "host/name", and Logs by "host/unit": not redacted.
	Texts, Logs map[string]string
}

// Gather reads the evidence: every host, the API, etcd, certificates and the network between nodes,
// in parallel and within 45 s. It changes nothing. Whatever does not answer is evidence.
func Gather(ctx context.Context, s Source) *Gathered {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	g := &gathering{
		Source: s,
		Gathered: Gathered{
			Evidence: Evidence{
				Cluster: s.Input.Cluster.Metadata.Name, Version: s.Input.Cluster.Spec.Kubernetes.Version, FileArg: s.FileArg, Taken: time.Now().UTC(),
			},
			Texts: map[string]string{}, Logs: map[string]string{},
		},
	}
	g.hosts()
	var wait sync.WaitGroup
	for i := range g.Evidence.Hosts {
		wait.Go(func() { g.host(ctx, &g.Evidence.Hosts[i]) })
	}
	if s.Input.PKI != nil {
		wait.Go(func() { g.Evidence.API = g.api(ctx) })
		wait.Go(func() { g.Evidence.Etcd = g.etcd(ctx) })
		wait.Go(func() { g.Evidence.Certificates = g.certificates(ctx) })
	}
	if s.Drift != nil {
		wait.Go(func() { g.drift(ctx) })
	}
	wait.Wait()
	if s.Input.PKI != nil { // where pods are reached is part of the hosts' reports
		g.Evidence.Paths = g.paths(ctx)
	}
	g.silence()
	return &g.Gathered
}

// gathering is one run of Gather.
type gathering struct {
	Source
	Gathered
	mu sync.Mutex // of Texts and Logs
}

// hosts lists the machines of the spec, in its order, with what the provider knows.
func (g *gathering) hosts() {
	machines := map[string]spec.Machine{}
	for _, m := range g.Infra.Machines {
		machines[m.Name] = m
	}
	for _, n := range g.Input.Cluster.Nodes() {
		if len(g.Only) > 0 && !slices.Contains(g.Only, n.Name) {
			continue
		}
		h := Host{Name: n.Name, Role: n.Role, Address: machines[n.Name].Address}
		state := g.Infra.States[n.Name]
		_, exists := machines[n.Name]
		_, connected := g.Hosts[n.Name]
		switch failed := g.Infra.Failed[n.Name]; {
		case connected:
		case failed != nil:
			h.Hop, h.Problem = HopMachine, failed.Error()
		case !exists:
			h.Hop, h.Problem = HopMachine, "there is no such machine"
		case state != spec.MachineRunning:
			h.Hop, h.Problem = HopMachine, "it is "+cmp.Or(state, "in an unknown state")
		default:
			h.Hop, h.Problem = hopOf(n.Name, g.Unreachable[n.Name])
		}
		g.Evidence.Hosts = append(g.Evidence.Hosts, h)
	}
}

// drift asks what a plan would change.
func (g *gathering) drift(ctx context.Context) {
	drift, err := g.Drift(ctx)
	if err != nil {
		g.Evidence.DriftError = shortened(err.Error(), maxLine)
		return
	}
	g.Evidence.Drift = drift
}

// silence marks nodes whose kubelet has not reported: their lease is older than it may be.
func (g *gathering) silence() {
	for _, l := range g.Evidence.API.Leases {
		if l.Namespace != nodeLeases || l.Age <= l.Duration {
			continue
		}
		for i, n := range g.Evidence.API.Nodes {
			if n.Name == l.Name {
				g.Evidence.API.Nodes[i].Silent = true
			}
		}
	}
}

// dialer returns the power of a host to connect, nil if it has none.
func (g *gathering) dialer(name string) host.Dialer {
	d, _ := g.Hosts[name].(host.Dialer)
	return d
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
