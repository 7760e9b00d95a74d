package converge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/balancer"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// awaitUnits waits until the units of a host are active and do their work. Its balancer uses the
// configuration on its disk, which it rereads by itself, and forwards to an API server; if this run
// has changed that path, the kubelet must have sent heartbeats over it (awaitHeartbeat).
func (r *Runner) awaitUnits(ctx context.Context, s plan.Step) error {
	name := s.Host
	want := r.Desired.Hosts[name]
	units := want.Units
	var also []string
	if _, ok := units[stack.BalancerService]; ok {
		status := balancer.Status(want.Files[stack.BalancerFile].Content, want.Files[stack.CAFile].Content)
		also = append(also, fmt.Sprintf(`[ "$(%s)" = %s ]`, balancerSays, host.Quote(status)))
	}
	report := func(what string) { r.report(name, what) }
	if err := unitsUp(ctx, r.Hosts[name], units, report, also...); err != nil {
		return err
	}
	dialer, ok := r.Hosts[name].(host.Dialer)
	if !ok {
		return fmt.Errorf("%s: cannot reach its network", name)
	}
	healthy, done, err := r.reach().Health(dialer, r.Input.PKI.Bundle(certs.KubernetesCA))
	if err != nil {
		return err
	}
	defer done()
	if err := r.awaitHealth(ctx, name, healthy); err != nil {
		return err
	}
	r.mu.Lock()
	rerouted := r.rerouted[name]
	r.mu.Unlock()
	if rerouted {
		r.note(ctx, name, &r.leases)
	}
	return nil
}

// awaitHealth asks the health endpoints of a host's units, all at the same time, until each is healthy.
func (r *Runner) awaitHealth(ctx context.Context, name string, healthy func(ctx context.Context, url string) error) error {
	units := r.Desired.Hosts[name].Units
	rows := slices.DeleteFunc(stack.Units(), func(row stack.Service) bool {
		_, ok := units[row.Name]
		return !ok || row.Health == ""
	})
	// Of several errors the first counts. The balancer comes last: it forwards to nothing if the API
	// server is what does not work.
	slices.SortStableFunc(rows, func(a, b stack.Service) int { return last(a) - last(b) })
	errs := make([]error, len(rows))
	var wait sync.WaitGroup
	for i, row := range rows {
		wait.Go(func() {
			ask := func(ctx context.Context) error { return healthy(ctx, row.Health) }
			errs[i] = live.WaitFor(ctx, row.Name+" on "+name+" is not healthy", ask)
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return r.explain(ctx, err, name, rows[i].Name)
		}
	}
	return nil
}

func last(row stack.Service) int {
	if row.Name == stack.BalancerService {
		return 1
	}
	return 0
}

// noteDisturbed records when a kubelet sent its last heartbeats, before it is restarted, and which
// other kubelets will reach the API in another way: their lease is recorded once that way is proven
// to work. If there was no heartbeat before, there is no outdated data to wait out.
func (r *Runner) noteDisturbed(ctx context.Context, s plan.Step) {
	touched := func(kind plan.Kind, names ...string) bool {
		return slices.ContainsFunc(s.Changes, func(c plan.Change) bool { return c.Kind == kind && slices.Contains(names, c.Name) })
	}
	switch {
	case touched(plan.UnitChange, stack.KubeletService):
		r.note(ctx, s.Host, &r.heartbeats)
	case touched(plan.UnitChange, stack.BalancerService) || touched(plan.FileChange, stack.BalancerFile, stack.CAFile):
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.rerouted == nil {
			r.rerouted = map[string]bool{}
		}
		r.rerouted[s.Host] = true
	}
}

// note queries a kubelet's last heartbeats. If the API does not answer, or does not have the node,
// there are none.
func (r *Runner) note(ctx context.Context, name string, in *map[string]kube.Heartbeat) {
	heartbeat, err := r.API.Heartbeat(ctx, name)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if *in == nil {
		*in = map[string]kube.Heartbeat{}
	}
	(*in)[name] = heartbeat
}

// awaitHeartbeat waits until a kubelet that this run has restarted, or whose path to the API it has
// changed, has sent heartbeats again. A running kubelet renews its lease every 10 s, and reports
// its node's status less often.
func (r *Runner) awaitHeartbeat(ctx context.Context, name string) error {
	r.mu.Lock()
	before, restarted := r.heartbeats[name]
	noted, rerouted := r.leases[name]
	r.mu.Unlock()
	if !restarted && !rerouted {
		return nil
	}
	return live.WaitFor(ctx, "the kubelet of "+name+" has sent no heartbeat since it, or its balancer, was changed", func(ctx context.Context) error {
		now, err := r.API.Heartbeat(ctx, name)
		if err == nil && (restarted && !now.After(before) || rerouted && !now.Lease.After(noted.Lease)) {
			err = fmt.Errorf("it renewed its lease at %s, and reported at %s", now.Lease.Format(time.TimeOnly), now.Report.Format(time.TimeOnly))
		}
		return err
	})
}
