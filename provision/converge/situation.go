package converge

import (
	"cmp"
	"context"
	"sync"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// Situation observes the hosts, one session each, then asks the API and etcd what they know. hosts may lack machines that
// cannot be reached: these are held, or left out (Only). It fails where a host could not be read and where going on would
// do harm; it changes nothing but r.
func (r *Runner) Situation(ctx context.Context, hosts map[string]host.Host) (plan.Situation, error) {
	r.Hosts, r.Objects = hosts, nil
	unread, err := r.observeHosts(ctx)
	if err != nil {
		return plan.Situation{}, err
	}
	hosts = r.Hosts
	refusals := plan.Refuse(r.Input, r.Before, r.Observed)
	if err := plan.Refusal(plan.HostsUnchanged, refusals.Cluster); err != nil {
		return plan.Situation{}, err
	}
	if r.Desired, err = r.wishes().Desired(r.Input); err != nil {
		return plan.Situation{}, err
	}
	s := plan.Situation{
		Machines: r.Input.Machines, Initialized: plan.BeenUp(r.Input, r.Observed), Unobserved: plan.Unobserved(r.Input.Machines, r.Observed),
		Unrecorded:     r.Before.Up == nil || r.Input.RebuildEmpty,
		MaxUnavailable: r.Input.Cluster.MaxUnavailable(), APIError: "no API server runs", PluginWas: r.Before.Up.PluginBefore(r.Input.Cluster),
	}
	if r.API, err = r.reach().API(r.Input, hosts); err != nil {
		return plan.Situation{}, err
	}
	if plan.Serves(r.Observed) {
		if s.APIError, err = r.observeCluster(ctx); err != nil {
			return plan.Situation{}, err
		}
	} else if s.Initialized {
		r.Observed.Members = r.members(ctx) // etcd may work without any API server
	}
	refusals.Members(r.Desired, r.Observed)
	if err := plan.Refusal(plan.HostsUnchanged, refusals.Cluster); err != nil {
		return plan.Situation{}, err
	}
	signs := plan.Signs{API: s.APIError == "", Ended: r.endedMembers(ctx, r.Observed), Gone: r.Input.Gone, BeenUp: r.Input.BeenUp}
	s.Alive = plan.Alive(r.Input.Machines, r.Observed, signs)
	s.Down = plan.NotReady(r.Desired, r.Observed)
	s.Changes = plan.Diff(r.Desired, r.Observed)
	s.Hold(r.Held)
	s.Hold(unread)
	s.Hold(refusals.Hosts)
	if err := plan.RefuseClocks(r.Observed, r.brought(s.Changes)); err != nil {
		return plan.Situation{}, err
	}
	r.warnOfClocks()
	r.warnOfDisks()
	s.Proofs = r.Prove.Proofs(r.Input, s.Changes)
	s.Roll = r.roll(ctx, s)
	for _, o := range r.Objects {
		s.Changes = append(s.Changes, plan.ChangeOfObject(o))
	}
	if len(s.Changes) > 0 {
		plan.Explain(s.Changes, plan.CausesOf(r.Input, r.Before))
	}
	return s, nil
}

func (r *Runner) wishes() Wishes {
	if r.Wishes == nil {
		return computed{}
	}
	return r.Wishes
}

// observeHosts observes the hosts, and takes from what they are the facts that desired state is computed from. It gives
// those that could not be read, with the reasons.
func (r *Runner) observeHosts(ctx context.Context) (unread map[string][]string, err error) {
	query, err := r.wishes().Query(r.Input)
	if err != nil {
		return nil, err
	}
	var waits func(host, what string)
	if r.Changing {
		waits = r.report
	}
	r.Observed, err = observe.Observe(ctx, r.Hosts, query, waits, r.ObserveLimit)
	if unread, err = r.withoutUnread(ctx, err); err != nil {
		return nil, err
	}
	if r.Input.Adopt(r.Observed) {
		r.Before.Up, r.Before.Applied = nil, nil // what the state knows is of before
	}
	plan.Forget(r.Input, r.Observed)
	r.Input.Facts = map[string]stack.Facts{}
	for name, h := range r.Observed.Hosts {
		r.Input.Facts[name] = h.Facts
	}
	return unread, nil
}

// observeCluster asks the API and etcd, side by side. That the API does not answer is not an error but an answer.
func (r *Runner) observeCluster(ctx context.Context) (unasked string, err error) {
	text, err := stack.Manifests(r.Input)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, live.CompareTimeout)
	defer cancel()
	var objectsErr, nodesErr, uidErr error
	var uid string
	var loaded map[string]string
	var questions sync.WaitGroup
	questions.Go(func() { r.Objects, objectsErr = r.API.Diff(ctx, text) })
	questions.Go(func() { r.Observed.Nodes, nodesErr = r.API.Nodes(ctx) })
	questions.Go(func() { r.Observed.Members = r.members(ctx) })
	questions.Go(func() { uid, uidErr = r.API.ClusterUID(ctx) })
	questions.Go(func() { loaded = r.observeAuthentication(ctx) })
	questions.Wait()
	for name, hash := range loaded {
		h := r.Observed.Hosts[name]
		h.Authentication = hash
		r.Observed.Hosts[name] = h
	}
	if nodesErr = cmp.Or(nodesErr, uidErr); nodesErr == nil {
		if err := plan.CheckUID(r.Input, uid); err != nil {
			return "", err
		}
	}
	if nodesErr != nil {
		r.Objects, r.Observed.Nodes = nil, nil
		return nodesErr.Error(), nil
	}
	if objectsErr != nil { // the API answers; it is about these objects
		r.Objects = append(r.Objects, kube.Change{Object: "manifests", Err: objectsErr})
	}
	return "", nil
}
