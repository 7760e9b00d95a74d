package provision

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// initialized says whether any host has been part of a cluster that was up.
func initialized(observed State) bool {
	for _, h := range observed.Hosts {
		if h.Facts.Initialized {
			return true
		}
	}
	return false
}

// notReady are the nodes that are wanted and not Ready, or not there; nil where the API has not told.
func notReady(desired, observed State) map[string]bool {
	if observed.Nodes == nil {
		return nil
	}
	down := map[string]bool{}
	for name := range desired.Nodes {
		if !observed.Nodes[name].Ready {
			down[name] = true
		}
	}
	return down
}

// Alive says whether a cluster lives, so that nothing of it may be disturbed carelessly: it has been up, most of its etcd
// members run, and either its API answers or a quorum of the members says that it is healthy. One that has lost its
// quorum, or whose etcd runs and answers nobody, has nothing to lose, and comes up everywhere at once: gates would wait for
// a health that only the others can bring.
//
// The API goes on answering where certificates of etcd have ended, for as long as it keeps its connections, and no member
// can be proven healthy any more: where too few are left that do not show such a certificate (ended, by host), its answer
// does not count. That etcd merely could not be asked says nothing.
func Alive(machines []spec.Machine, observed State, answers bool, ended map[string]bool) bool {
	running, healthy, lasting, members := 0, 0, 0, 0
	for _, m := range machines {
		if m.Role != spec.ControlPlane {
			continue
		}
		members++
		if observed.Hosts[m.Name].Units["etcd.service"].Active {
			running++
		}
		if observed.Members[m.Name].Healthy {
			healthy++
		}
		if !ended[m.Name] {
			lasting++
		}
	}
	quorum := members/2 + 1
	return initialized(observed) && running >= quorum && (healthy >= quorum || answers && lasting >= quorum)
}

// endedMembers are the hosts whose member of etcd shows a certificate that has ended, by the host's own clock. They are
// asked only where the API answers and no quorum of members does: etcd notes each such handshake in its log.
func (r *Runner) endedMembers(ctx context.Context, answers bool) map[string]bool {
	if !answers || Alive(r.Input.Machines, r.Observed, false, nil) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	var mu sync.Mutex
	var questions sync.WaitGroup
	ended := map[string]bool{}
	for _, m := range r.Input.controlPlanes() {
		questions.Go(func() {
			offset := r.Observed.Hosts[m.Name].Facts.Clock.Offset()
			_ = r.eachEndpoint(ctx, m.Name, func(ctx context.Context, h host.Dialer, e endpointRow, address string) error {
				if e.unit != "etcd.service" {
					return nil
				}
				shown, err := peerCertificate(ctx, h, address, "")
				if err != nil || !time.Now().Add(offset).After(shown.NotAfter) {
					return nil //nolint:nilerr // who cannot be asked shows nothing, and keeps the others from nothing
				}
				mu.Lock()
				defer mu.Unlock()
				ended[m.Name] = true
				r.report(m.Name, fmt.Sprintf("its member of etcd shows a certificate that has ended at %s", shown.NotAfter.UTC().Format(time.RFC3339)))
				return nil
			}) // a host that cannot be reached shows nothing, either
		})
	}
	questions.Wait()
	return ended
}

// members asks etcd for its members; nil where none answers.
func members(ctx context.Context, in Input, hosts map[string]host.Host) map[string]Member {
	client, err := etcdClientOf(in, hosts)
	if err != nil {
		return nil
	}
	list, err := client.Status(ctx)
	if err != nil {
		return nil
	}
	found := map[string]Member{}
	for _, m := range list {
		member := Member{Healthy: m.Healthy && !m.Learner, PeerURL: strings.Join(m.PeerURLs, ",")}
		switch {
		case m.Err != nil:
			member.Problem = m.Err.Error()
		case m.Learner:
			member.Problem = "it is still a learner"
		}
		found[m.Name] = member
	}
	return found
}

// etcdClientOf speaks to the members on those control planes that can be reached.
func etcdClientOf(in Input, hosts map[string]host.Host) (*etcd.Client, error) {
	var endpoints []etcd.Endpoint
	var anyone string
	for _, m := range in.controlPlanes() {
		anyone = m.Name // one control plane's client certificate is as good as another's
		if d, ok := hosts[m.Name].(host.Dialer); ok {
			endpoints = append(endpoints, etcd.Endpoint{Address: netip.AddrPortFrom(m.Address, etcdClient).String(), Dial: d.DialContext})
		}
	}
	cert := in.PKI.Material["etcd/healthcheck-client@"+anyone]
	return etcd.New(endpoints, in.PKI.Bundle(certs.EtcdCA), cert.Cert, cert.Key)
}
