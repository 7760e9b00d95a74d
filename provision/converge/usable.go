package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

const (
	usableTimeout  = 3 * time.Minute
	usableInterval = 250 * time.Millisecond
	// pressureTime is how long a kubelet may take to report that its disk is full: it checks every
	// 10 s, not at the first moment, and reports every 10 s.
	pressureTime = 30 * time.Second
)

// awaitUsable waits until the cluster can be used: DNS answers without outdated pods, and no
// pressure or taint keeps pods off nodes. A kubelet reports only after some seconds that its disk
// is too full. If that is expected, the kubelet gets time for it.
func (r *Runner) awaitUsable(ctx context.Context, _ plan.Step) error {
	ctx, cancel := context.WithTimeout(ctx, usableTimeout)
	defer cancel()
	if hosts := r.fullDisks(); len(hosts) > 0 {
		if err := r.awaitPressure(ctx, hosts); err != nil {
			return fmt.Errorf("the cluster cannot be used: %w", err)
		}
	}
	return live.WaitEvery(ctx, usableInterval, "the cluster cannot be used", func(ctx context.Context) error {
		nodes, err := r.API.Nodes(ctx)
		if err != nil {
			return err
		}
		troubles := r.troubles(nodes)
		if r.Input.Cluster.Spec.Network.Plugin == "none" { // no pod can run before a user has installed one
			return errors.Join(troubles...)
		}
		dns, err := r.API.Deployment(ctx, stack.DNSNamespace, stack.DNSName)
		if err == nil && (!dns.Serves() || !dns.Settled) {
			err = errors.New(dns.String())
		}
		return errors.Join(append(troubles, err)...)
	})
}

// awaitPressure gives kubelets pressureTime to report the expected pressure. Pressure does not
// clear by itself: it stops waiting once one has reported it.
func (r *Runner) awaitPressure(ctx context.Context, hosts []string) error {
	ctx, cancel := context.WithTimeout(ctx, pressureTime)
	defer cancel()
	var short []error
	// The expected good result is that none reports any.
	_ = live.WaitEvery(ctx, usableInterval, "no pressure", func(ctx context.Context) error {
		nodes, err := r.API.Nodes(ctx)
		if err != nil {
			return err
		}
		maps.DeleteFunc(nodes, func(name string, n kube.Node) bool { return !slices.Contains(hosts, name) || len(n.Short) == 0 })
		if short = r.troubles(nodes); len(short) == 0 {
			return errors.New("no kubelet has reported any")
		}
		return nil
	})
	return errors.Join(short...)
}

// troubles returns what keeps pods off wanted nodes, one error per node. Held hosts are known to be
// unhealthy.
func (r *Runner) troubles(nodes map[string]kube.Node) []error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(r.Desired.Nodes)) {
		trouble := nodes[name].Trouble(r.Desired.Nodes[name])
		if len(trouble) > 0 && len(r.Situation.Held[name]) == 0 {
			all = append(all, fmt.Errorf("node %s: %s", name, strings.Join(trouble, ", ")))
		}
	}
	return all
}
