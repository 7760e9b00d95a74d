package converge

import (
	"cmp"
	"context"
	"errors"
	"time"

	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
)

// Record changes what the state records of a cluster that is up (nil: that it is). It is called by
// one step at a time.
type Record func(ctx context.Context, change func(was *plan.Up) *plan.Up) error

// recordUp records in the state that the cluster is up, with etcd's ID of it: before its hosts
// record it, and before users are told that the cluster is usable.
func (r *Runner) recordUp(ctx context.Context, _ plan.Step) error {
	client, err := r.etcd()
	if err != nil {
		return err
	}
	var id string
	err = live.WaitFor(ctx, "no etcd member reports its cluster", func(ctx context.Context) error {
		members, err := client.Status(ctx)
		if id = live.ClusterOf(members); err == nil && id == "" {
			err = errors.New("none has answered")
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.recordJoined(ctx, id, nil)
}

func (r *Runner) recordJoined(ctx context.Context, etcdCluster string, members map[string]bool) error {
	r.recording.Lock()
	defer r.recording.Unlock()
	return r.record(ctx, r.Record, etcdCluster, members)
}

// RecordLiving records in the state what was observed of a running cluster, if the state has less.
func (v *View) RecordLiving(ctx context.Context, record Record) error {
	members, id := map[string]bool{}, ""
	for name, m := range v.Observed.Members {
		members[name], id = m.Healthy, cmp.Or(id, m.Cluster)
	}
	return v.record(ctx, record, id, members)
}

// RecordPlugin records in the state that the whole cluster has the spec's network plugin.
func (v *View) RecordPlugin(ctx context.Context, record Record) error {
	return record(ctx, func(was *plan.Up) *plan.Up {
		if was == nil {
			return nil
		}
		up := *was
		up.Plugin = v.Input.Cluster.Spec.Network.Plugin
		return &up
	})
}

func (v *View) record(ctx context.Context, record Record, etcdCluster string, members map[string]bool) error {
	return record(ctx, func(was *plan.Up) *plan.Up { return was.Joined(v.Input, time.Now(), etcdCluster, members) })
}
