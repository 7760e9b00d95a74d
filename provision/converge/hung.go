package converge

import (
	"context"
	"errors"
	"maps"

	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/plan"
)

// withoutUnread leaves hosts alone that could not be observed, and gives them with why. A rotation needs every host, and
// nothing can be done where none can be read.
func (r *Runner) withoutUnread(ctx context.Context, err error) (map[string][]string, error) {
	var unread *observe.UnreadError
	if !errors.As(err, &unread) || ctx.Err() != nil || r.Prove == plan.ProveStage || len(r.Observed.Hosts) == 0 {
		return nil, err
	}
	held := map[string][]string{}
	r.Hosts = maps.Clone(r.Hosts)
	for name, why := range unread.Hosts {
		held[name] = []string{"it could not be read: " + why.Error()}
		delete(r.Hosts, name)
	}
	return held, nil
}
