package converge

import (
	"cmp"
	"context"
	"errors"
	"time"

	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
)

// recordUp has the state record that the cluster is up, with the ID that etcd gave it: before its hosts record it, and
// before anybody is told that the cluster can be used.
func (r *Runner) recordUp(ctx context.Context, _ plan.Step) error {
	client, err := r.etcd()
	if err != nil {
		return err
	}
	var id string
	err = live.WaitFor(ctx, "no member of etcd tells of which cluster it is", func(ctx context.Context) error {
		members, err := client.Status(ctx)
		if id = live.ClusterOf(members); err == nil && id == "" {
			err = errors.New("none has answered")
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.record(ctx, id, nil)
}

// RecordLiving has the state record what has been observed of a cluster that lives, where the state knows less.
func (r *Runner) RecordLiving(ctx context.Context) error {
	members, id := map[string]bool{}, ""
	for name, m := range r.Observed.Members {
		members[name], id = m.Healthy, cmp.Or(id, m.Cluster)
	}
	return r.record(ctx, id, members)
}

func (r *Runner) record(ctx context.Context, etcdCluster string, members map[string]bool) error {
	if r.Record == nil {
		return nil
	}
	return r.Record(ctx, func(was *plan.Up) *plan.Up { return was.Joined(r.Input, time.Now(), etcdCluster, members) })
}
