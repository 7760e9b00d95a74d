package main

import (
	"context"
	"fmt"
	"slices"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
)

// reach connects to hosts: when a rotation begins to all, to find differences; otherwise to those
// control planes that answer.
func (r *rotateRun) reach(ctx context.Context, o *rotate.Overview) (map[string]host.Host, func(), error) {
	if !o.Begins {
		controlPlanes := slices.DeleteFunc(slices.Clone(r.Found().Machines), func(m spec.Machine) bool { return m.Role != spec.ControlPlane })
		hosts, closeAll, _ := r.Dial(ctx, controlPlanes) // one is enough; without any, the API does not answer
		r.progress.Phase("workloads")
		return hosts, closeAll, nil
	}
	todo, closeAll, err := r.Plan(ctx)
	if err != nil {
		return nil, nil, err
	}
	if todo.APIError != "" {
		closeAll()
		return nil, nil, fmt.Errorf("the API does not answer (%s), and a rotation needs it to begin: run `slipway apply` first; nothing was changed", todo.APIError)
	}
	o.OtherChanges = rotate.OtherChanges(todo)
	r.progress.Phase("workloads")
	return r.Hosts(), closeAll, nil
}
