package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/etcd"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
)

// Situation is what has to be done, and all that a schedule depends on.
type Situation struct {
	// Machines in the order of the spec.
	Machines []spec.Machine
	// Alive says that the cluster has been up and has its quorum: control planes are touched one at a time.
	Alive bool
	// Changes on the hosts, in the API and in etcd.
	Changes []Change
	// Unasked says why the API was not asked, or did not answer: objects, nodes and members are not known then.
	Unasked string
	// MaxUnavailable is how many nodes of a pool of workers may be disturbed at a time; 0 is one.
	MaxUnavailable map[string]int
}

// Describe gives every difference as a line; none means that the cluster is as it should be.
func (s Situation) Describe() []string {
	var lines []string
	for _, c := range s.Changes {
		lines = append(lines, c.String())
	}
	if s.Unasked != "" {
		lines = append(lines, "cluster: the API could not be asked: "+s.Unasked)
	}
	return lines
}

// Only leaves the changes of some hosts, and gives those that are left out. It is an error where the schedule could
// not hold then: a cluster that is not up needs all its control planes.
func (s Situation) Only(hosts []string) (some Situation, leftOut []Change, err error) {
	some = s
	some.Changes, some.Machines = nil, nil
	for _, name := range hosts {
		if !slices.ContainsFunc(s.Machines, func(m spec.Machine) bool { return m.Name == name }) {
			return s, nil, fmt.Errorf("--only %s: the cluster has no such node; it has %s", name, names(s.Machines))
		}
	}
	for _, c := range s.Changes {
		if slices.Contains(hosts, c.Host) {
			some.Changes = append(some.Changes, c)
		} else {
			leftOut = append(leftOut, c)
		}
	}
	for _, m := range s.Machines {
		switch {
		case slices.Contains(hosts, m.Name):
			some.Machines = append(some.Machines, m)
		case m.Role == spec.ControlPlane && !s.Alive:
			return s, nil, fmt.Errorf("--only leaves out %s, but the cluster is not up, and its control planes come up together: name all of them", m.Name)
		}
	}
	return some, leftOut, nil
}

func names(machines []spec.Machine) string {
	var all []string
	for _, m := range machines {
		all = append(all, m.Name)
	}
	return strings.Join(all, ", ")
}

// Situation observes the hosts, one session each, then asks the API and etcd what they know. It fails where a host
// could not be read and where going on would do harm; it changes nothing but r.
func (r *Runner) Situation(ctx context.Context, hosts map[string]host.Host) (Situation, error) {
	r.Hosts, r.Objects = hosts, nil
	asked, err := Asked(r.Input)
	if err != nil {
		return Situation{}, err
	}
	if r.Observed, err = Observe(ctx, hosts, asked); err != nil {
		return Situation{}, err
	}
	r.Input.Facts = map[string]Facts{}
	for name, h := range r.Observed.Hosts {
		r.Input.Facts[name] = h.Facts
	}
	if err := Refuse(r.Input, r.Observed); err != nil {
		return Situation{}, err
	}
	if r.Desired, err = Desired(r.Input); err != nil {
		return Situation{}, err
	}
	s := Situation{
		Machines: r.Input.Machines, Alive: Alive(r.Input.Machines, r.Observed),
		MaxUnavailable: r.Input.Cluster.MaxUnavailable(), Unasked: "no API server runs",
	}
	if r.API, err = apiClient(r.Input, hosts); err != nil {
		return Situation{}, err
	}
	if serves(r.Observed) {
		if s.Unasked, err = r.observeCluster(ctx); err != nil {
			return Situation{}, err
		}
	}
	if err := RefuseMembers(r.Desired, r.Observed); err != nil {
		return Situation{}, err
	}
	s.Changes = Diff(r.Desired, r.Observed)
	for _, o := range r.Objects {
		s.Changes = append(s.Changes, objectChange(o))
	}
	if len(s.Changes) > 0 {
		Explain(s.Changes, r.Causes())
	}
	return s, nil
}

// serves says whether an API server runs anywhere.
func serves(observed State) bool {
	for _, h := range observed.Hosts {
		if h.Units["kube-apiserver.service"].Active {
			return true
		}
	}
	return false
}

// observeCluster asks the API and etcd, side by side. That the API does not answer is not an error but an answer.
func (r *Runner) observeCluster(ctx context.Context) (unasked string, err error) {
	text, err := Manifests(r.Input)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	var objectsErr, nodesErr error
	var questions sync.WaitGroup
	questions.Go(func() { r.Objects, objectsErr = r.API.Diff(ctx, text) })
	questions.Go(func() { r.Observed.Nodes, nodesErr = r.API.Nodes(ctx) })
	questions.Go(func() { r.Observed.Members = members(ctx, r.Input, r.Hosts) })
	questions.Wait()
	if err := errors.Join(objectsErr, nodesErr); err != nil {
		r.Objects, r.Observed.Nodes = nil, nil
		return err.Error(), nil
	}
	return "", nil
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
	return etcd.New(endpoints, in.PKI.Material[certs.EtcdCA].Cert, cert.Cert, cert.Key)
}

func objectChange(o kube.Change) Change {
	c := Change{Kind: ObjectChange, Name: o.Object, Action: Update, Cause: Drift}
	switch {
	case o.Missing:
		c.Action, c.Reason = Create, "is missing"
	case o.By != "":
		c.Reason = "changed by " + o.By + at(o.At)
	default:
		c.Reason = "differs"
	}
	return c
}

// Alive says whether a cluster lives, so that nothing of it may be disturbed carelessly: it has been up, and most of
// its etcd members run. One that has lost its quorum has nothing to lose, and comes up everywhere at once.
func Alive(machines []spec.Machine, observed State) bool {
	initialized, running, members := false, 0, 0
	for _, m := range machines {
		if m.Role != spec.ControlPlane {
			continue
		}
		members++
		h := observed.Hosts[m.Name]
		initialized = initialized || h.Facts.Initialized
		if h.Units["etcd.service"].Active {
			running++
		}
	}
	return initialized && running > members/2
}
