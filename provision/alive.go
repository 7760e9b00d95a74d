package provision

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
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

// Signs are what is known of the life of a cluster beside what its hosts and members show.
type Signs struct {
	// BeenUp says that the state knows that the cluster has been up, whatever its hosts show.
	BeenUp bool
	// API says that the API answers.
	API bool
	// Ended are the hosts whose member of etcd shows a certificate that has ended.
	Ended map[string]bool
	// Gone are the nodes whose machine does not exist.
	Gone []string
}

// Alive says whether a cluster lives or may live, so that nothing of it may be disturbed carelessly. That it is down has to
// be certain: it has never been up, or so many members of etcd are known not to take part in a majority that there can be
// none. It lives where any member answers a linearizable read, for only a majority can make it; what was not observed may be
// running, and a member that is slow may be needed. One that is down has nothing to lose, and comes up everywhere at once:
// gates would wait for a health that only the others can bring. ProveDown looks again before that is done.
//
// The API goes on answering where certificates of etcd have ended, for as long as it keeps its connections, and no member
// can be proven healthy any more: where too few are left that do not show such a certificate, its answer does not count. It
// does count where members seem to be out that may be about to join: those that start, and those that see no leader.
func Alive(machines []spec.Machine, observed State, signs Signs) bool {
	if !signs.BeenUp && !initialized(observed) {
		return false
	}
	if answered(observed) {
		return true
	}
	members, possible, likely := standing(machines, observed, signs)
	quorum := members/2 + 1
	return likely >= quorum || signs.API && possible >= quorum
}

// standing counts the control planes, those whose member of etcd may take part in a majority or begin to, and those of them
// that do not seem to be out of it.
func standing(machines []spec.Machine, observed State, signs Signs) (members, possible, likely int) {
	for _, m := range machines {
		if m.Role != spec.ControlPlane {
			continue
		}
		members++
		h, seen := observed.Hosts[m.Name]
		unit := h.Units[etcdService]
		runs := unit.Active || strings.HasPrefix(unit.State, "reloading/") || strings.HasPrefix(unit.State, "deactivating/")
		starts := strings.HasPrefix(unit.State, "activating/")
		switch {
		case signs.Ended[m.Name] || slices.Contains(signs.Gone, m.Name):
		case seen && !runs && !starts: // it does not run, and nothing starts it
		case seen && starts || observed.Members[m.Name].Out:
			possible++
		default:
			possible, likely = possible+1, likely+1
		}
	}
	return members, possible, likely
}

// endedMembers are the hosts whose member of etcd shows a certificate that has ended, by the host's own clock. They are
// asked only where the cluster has been up, no member answers, and the rest does not tell: etcd notes each such handshake in
// its log.
func (r *Runner) endedMembers(ctx context.Context, observed State) map[string]bool {
	if !Alive(r.Input.Machines, observed, Signs{API: true, BeenUp: r.Input.BeenUp, Gone: r.Input.Gone}) || answered(observed) {
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
				if e.unit != etcdService {
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

// answered says whether any member of etcd answered a linearizable read.
func answered(observed State) bool {
	for _, m := range observed.Members {
		if m.Answers {
			return true
		}
	}
	return false
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
	return membersOf(list)
}

func membersOf(list []etcd.Member) map[string]Member {
	found := map[string]Member{}
	for _, m := range list {
		member := Member{
			Healthy: m.Healthy && !m.Learner, PeerURL: strings.Join(m.PeerURLs, ","), Answers: m.Answers, Out: m.Out, Cluster: clusterOf([]etcd.Member{m}),
		}
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

// etcdClientOf speaks to the members on those control planes of the cluster's own that can be reached.
func etcdClientOf(in Input, hosts map[string]host.Host) (*etcd.Client, error) {
	var endpoints []etcd.Endpoint
	var anyone string
	for _, m := range in.controlPlanes() {
		anyone = m.Name // one control plane's client certificate is as good as another's
		if d, ok := hosts[m.Name].(host.Dialer); ok && in.speaks(m.Name) {
			endpoints = append(endpoints, etcd.Endpoint{Address: netip.AddrPortFrom(m.Address, etcdClient).String(), Dial: d.DialContext})
		}
	}
	cert := in.PKI.Material["etcd/healthcheck-client@"+anyone]
	return etcd.New(endpoints, in.PKI.Bundle(certs.EtcdCA), cert.Cert, cert.Key)
}
