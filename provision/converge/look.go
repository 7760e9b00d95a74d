package converge

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// Observer observes a cluster: its input before any host is queried. It can observe any number of
// times.
type Observer struct {
	// Input lacks the facts of the hosts.
	Input stack.Input
	// Artifacts gets those for an architecture that Input lacks, once a host has it; nil gets none.
	Artifacts func(ctx context.Context, arch string) (stack.Set, error)
	// Before explains changes; it may be empty.
	Before plan.Before
	// Prove is what is proven at the end.
	Prove plan.Proving
	// Changing means that the run will change what it observes: work left by an earlier run has to
	// end first.
	Changing bool
	// Held are hosts that this run must not change, and why.
	Held map[string][]string
	// Limit is how long a host may take to be observed; 0 is two minutes.
	Limit time.Duration
	// Reach is how API, etcd and endpoints are reached; nil is the network.
	Reach live.Reach
	// Report says what a host is waiting for, in a few words; it may be nil.
	Report func(host, what string)
	// Wishes computes the desired state; nil is package stack.
	Wishes Wishes
	// Inspect says, once hosts are observed, which of them must not be changed, and why; nil is none.
	Inspect func(ctx context.Context, observed stack.State) (map[string][]string, error)
}

// Wishes are stack.Query and stack.Desired, or cache their results.
type Wishes interface {
	Query(in stack.Input) (stack.State, error)
	Desired(in stack.Input) (stack.State, error)
}

type computed struct{}

func (computed) Query(in stack.Input) (stack.State, error)   { return stack.Query(in) }
func (computed) Desired(in stack.Input) (stack.State, error) { return stack.Desired(in) }

// looking is an incomplete view.
type looking struct {
	View
	from   Observer
	unread map[string][]string // hosts that could not be read, with the reasons
	unfit  map[string][]string // hosts that Inspect refuses
	// lacking has the architectures of hosts for which there are no artifacts, with the reasons.
	lacking map[string]error
}

// Look observes the hosts, one session each, then queries the API and etcd. hosts may lack machines
// that cannot be reached: these are held, or left out (plan.Situation.Only). It fails if a host
// could not be read and to continue would do harm. It changes nothing.
func (o Observer) Look(ctx context.Context, hosts map[string]host.Host) (*View, error) {
	if o.Wishes == nil {
		o.Wishes = computed{}
	}
	l := looking{from: o, View: View{Input: o.Input, Before: o.Before, Prove: o.Prove, Hosts: hosts, Reach: o.Reach, Report: o.Report}}
	if err := l.observeHosts(ctx); err != nil {
		return nil, err
	}
	refusals := plan.Refuse(l.Input, l.Before, l.Observed)
	err := plan.Refusal(plan.HostsUnchanged, refusals.Cluster)
	if err != nil {
		return nil, err
	}
	if o.Inspect != nil {
		if l.unfit, err = o.Inspect(ctx, l.Observed); err != nil {
			return nil, err
		}
	}
	var apiError string
	var clusterErr error
	var asking sync.WaitGroup
	asking.Go(func() { apiError, clusterErr = l.observeCluster(ctx) }) // it waits for the network meanwhile
	l.Desired, err = o.Wishes.Desired(l.Input)
	asking.Wait()
	if err = cmp.Or(err, clusterErr); err != nil {
		return nil, err
	}
	refusals.Members(l.Desired, l.Observed)
	if err := plan.Refusal(plan.HostsUnchanged, refusals.Cluster); err != nil {
		return nil, err
	}
	l.Situation = plan.Situation{
		Machines: l.Input.Machines, Initialized: plan.BeenUp(l.Input, l.Observed), APIError: apiError, Unobserved: plan.Unobserved(l.Input.Machines, l.Observed),
		Unrecorded:     l.Before.Up == nil || l.Input.RebuildEmpty,
		MaxUnavailable: l.Input.Cluster.MaxUnavailable(), PluginWas: l.Before.Up.PluginBefore(l.Input.Cluster),
	}
	if err := l.compare(ctx, refusals.Hosts); err != nil {
		return nil, err
	}
	return &l.View, nil
}

// compare completes the situation with the differences and their consequences. refused are hosts
// that must not be changed.
func (l *looking) compare(ctx context.Context, refused map[string][]string) error {
	s := &l.Situation
	signs := plan.Signs{API: s.APIError == "", Ended: l.endedMembers(ctx, l.Observed), Gone: l.Input.Gone, BeenUp: l.Input.BeenUp}
	s.Alive = plan.Alive(l.Input.Machines, l.Observed, signs)
	s.Down = plan.NotReady(l.Desired, l.Observed)
	s.Changes = plan.Diff(l.Desired, l.Observed)
	for _, held := range []map[string][]string{l.from.Held, l.unread, refused, l.lackBundle(), l.unfit} {
		s.Hold(held)
	}
	if err := plan.RefuseClocks(l.Observed, l.brought(s.Changes)); err != nil {
		return err
	}
	l.warnOfClocks()
	l.warnOfDisks()
	s.Proofs = l.Prove.Proofs(l.Input, s.Changes)
	s.Roll = l.roll(ctx, *s)
	for _, o := range l.Objects {
		s.Changes = append(s.Changes, plan.ChangeOfObject(o))
	}
	if plan.HasCause(s.Changes) {
		plan.Explain(s.Changes, plan.CausesOf(l.Input, l.Before, l.from.Wishes.Desired))
	}
	return nil
}

// observeHosts observes the hosts, and returns the facts that desired state is computed from. If it
// turns out that they were asked for programs of another architecture, they are observed again.
func (l *looking) observeHosts(ctx context.Context) error {
	if err := l.readHosts(ctx); err != nil {
		return err
	}
	again, err := l.learn(ctx)
	if err != nil {
		return err
	}
	if again {
		if err := l.readHosts(ctx); err != nil {
			return err
		}
	}
	if l.Input.Adopt(l.Observed) {
		l.Before.Up, l.Before.Applied = nil, nil // the state's record is of the previous generation
	}
	plan.Forget(l.Input, l.Observed)
	l.Input.Facts = map[string]stack.Facts{}
	for name, h := range l.Observed.Hosts {
		l.Input.Facts[name] = h.Facts
	}
	return nil
}

// readHosts observes all hosts that could be read until now.
func (l *looking) readHosts(ctx context.Context) error {
	query, err := l.from.Wishes.Query(l.Input)
	if err != nil {
		return err
	}
	var waits func(host, what string)
	if l.from.Changing {
		waits = l.report
	}
	l.Observed, err = observe.Observe(ctx, l.Hosts, query, waits, l.from.Limit)
	return l.withoutUnread(ctx, err)
}

// withoutUnread holds hosts that could not be observed. A rotation needs every host, and nothing
// can be done if none can be read.
func (l *looking) withoutUnread(ctx context.Context, err error) error {
	var unread *observe.UnreadError
	if !errors.As(err, &unread) || ctx.Err() != nil || l.Prove == plan.ProveStage || len(l.Observed.Hosts) == 0 {
		return err
	}
	if l.Hosts = maps.Clone(l.Hosts); l.unread == nil {
		l.unread = map[string][]string{}
	}
	for name, why := range unread.Hosts {
		l.unread[name] = []string{"it could not be read: " + why.Error()}
		delete(l.Hosts, name)
	}
	return nil
}

// observeCluster queries the API and etcd in parallel. If the API does not answer, that is a
// result, not an error.
func (l *looking) observeCluster(ctx context.Context) (apiError string, err error) {
	if l.API, err = l.reach().API(l.Input, l.Hosts); err != nil {
		return "", err
	}
	if !plan.Serves(l.Observed) {
		if plan.BeenUp(l.Input, l.Observed) {
			l.Observed.Members = l.members(ctx) // etcd may work without any API server
		}
		return "no API server runs", nil
	}
	text, err := stack.Manifests(l.Input)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, live.CompareTimeout)
	defer cancel()
	var objectsErr, nodesErr, uidErr error
	var uid string
	var loaded map[string]string
	var questions sync.WaitGroup
	questions.Go(func() { l.Objects, objectsErr = l.API.Diff(ctx, text) })
	questions.Go(func() { l.Observed.Nodes, nodesErr = l.API.Nodes(ctx) })
	questions.Go(func() { l.Observed.Members = l.members(ctx) })
	questions.Go(func() { uid, uidErr = l.API.ClusterUID(ctx) })
	questions.Go(func() { loaded = l.observeAuthentication(ctx) })
	questions.Wait()
	for name, hash := range loaded {
		h := l.Observed.Hosts[name]
		h.Authentication = hash
		l.Observed.Hosts[name] = h
	}
	if nodesErr = cmp.Or(nodesErr, uidErr); nodesErr == nil {
		if err := plan.CheckUID(l.Input, uid); err != nil {
			return "", err
		}
	}
	if nodesErr != nil {
		l.Objects, l.Observed.Nodes = nil, nil
		return nodesErr.Error(), nil
	}
	if objectsErr != nil { // the API answers; it is about these objects
		l.Objects = append(l.Objects, kube.Change{Object: "manifests", Err: objectsErr})
	}
	return "", nil
}
