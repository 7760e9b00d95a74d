package converge

import (
	"context"

	"slipway.dev/slipway/provision/plan"
)

// RecordPlugin has the state record that the whole cluster has the network plugin that its spec names.
func (r *Runner) RecordPlugin(ctx context.Context) error {
	if r.Record == nil {
		return nil
	}
	return r.Record(ctx, func(was *plan.Up) *plan.Up {
		if was == nil {
			return nil
		}
		up := *was
		up.Plugin = r.Input.Cluster.Spec.Network.Plugin
		return &up
	})
}
