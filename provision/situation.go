package provision

import (
	"context"
	"fmt"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

// Situation is what has to be done, and all that a schedule depends on.
type Situation struct {
	// Machines in the order of the spec.
	Machines []spec.Machine
	// Alive says that the cluster has been up and has its quorum: control planes are touched one at a time.
	Alive bool
	// Changes that Diff found on the hosts.
	Changes []Change
	// Objects in the API that differ from what they should be, or one entry that says why they could not be compared.
	Objects []string
	// Nodes that are not Ready or lack labels or taints.
	Nodes []NodeChange
}

// NodeChange is a node that has to be waited for, labelled or tainted.
type NodeChange struct{ Name, Reason string }

// Describe gives every difference as a line; none means that the cluster is as it should be.
func (s Situation) Describe() []string {
	var lines []string
	for _, c := range s.Changes {
		lines = append(lines, c.String())
	}
	for _, o := range s.Objects {
		lines = append(lines, "cluster: "+o)
	}
	for _, n := range s.Nodes {
		lines = append(lines, "node "+n.Name+": "+n.Reason)
	}
	return lines
}

// Situation observes the hosts, one round trip each, then asks the API what differs there. It fails where a host could
// not be read and where going on would do harm; it changes nothing but r.
func (r *Runner) Situation(ctx context.Context, hosts map[string]host.Host) (Situation, error) {
	r.Hosts = hosts
	paths, err := Desired(r.Input) // which files there are does not depend on facts; what is in them does
	if err != nil {
		return Situation{}, err
	}
	if r.Observed, err = Observe(ctx, hosts, paths); err != nil {
		return Situation{}, err
	}
	if err := Refuse(r.Input, r.Observed); err != nil {
		return Situation{}, err
	}
	r.Input.Facts = map[string]Facts{}
	for name, h := range r.Observed.Hosts {
		r.Input.Facts[name] = h.Facts
	}
	if r.Desired, err = Desired(r.Input); err != nil {
		return Situation{}, err
	}
	if r.API == nil {
		if r.API, err = apiClient(r.Input, hosts); err != nil {
			return Situation{}, err
		}
	}
	r.Changes = Diff(r.Desired, r.Observed)
	s := Situation{Machines: r.Input.Machines, Changes: r.Changes, Alive: Alive(r.Input.Machines, r.Observed)}
	if !s.Alive {
		s.Objects = []string{"the cluster has never been up, or has lost its quorum"}
		return s, nil
	}
	return s, r.compareAPI(ctx, &s)
}

// compareAPI fills in what differs in the API. An API that does not answer is itself a difference, not an error.
func (r *Runner) compareAPI(ctx context.Context, s *Situation) error {
	text, err := Manifests(r.Input)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	objects, err := r.API.Diff(ctx, text)
	if err != nil {
		s.Objects = []string{"the API could not be asked: " + err.Error()}
	}
	for _, o := range objects {
		s.Objects = append(s.Objects, o.String())
	}
	var names []string
	for _, m := range s.Machines {
		names = append(names, m.Name)
	}
	nodes, err := r.API.DiffNodes(ctx, NodeSettings(r.Input, names...))
	if err != nil {
		s.Objects = append(s.Objects, "the nodes could not be listed: "+err.Error())
	}
	for _, n := range nodes {
		s.Nodes = append(s.Nodes, NodeChange{n.Name, fmt.Sprint(n.Reason)})
	}
	return nil
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
