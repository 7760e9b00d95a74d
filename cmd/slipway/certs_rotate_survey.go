package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// reach connects to hosts: where a rotation begins to all, and finds out what differs there, else to those control planes
// that answer.
func (r *rotateRun) reach(ctx context.Context, o *rotate.Overview, artifacts map[string]stack.Artifact) (map[string]host.Host, func(), error) {
	if !o.Begins {
		controlPlanes := slices.DeleteFunc(slices.Clone(r.found.Machines), func(m spec.Machine) bool { return m.Role != spec.ControlPlane })
		hosts, closeAll, _ := dialAll(ctx, controlPlanes, r.connectTimeout) // one is enough; without any, the API does not answer
		r.progress.Phase("workloads")
		return hosts, closeAll, nil
	}
	r.infra = r.found
	todo, closeAll, err := r.look(ctx, artifacts)
	if err != nil {
		return nil, nil, err
	}
	if todo.Unasked != "" {
		closeAll()
		return nil, nil, fmt.Errorf("the API does not answer (%s), and a rotation begins only with a cluster that does: run `slipway apply` first; nothing was changed", todo.Unasked)
	}
	o.OtherChanges = rotate.OtherChanges(todo)
	r.progress.Phase("workloads")
	return r.hosts, closeAll, nil
}

// checkStrays looks once more, before the stages that cut nodes off: since the rotation began some may have come.
func (r *rotateRun) checkStrays(next *certs.Rotation) error {
	if next == nil || !rotate.CutsOff(next) || next.Stage != certs.Issue && next.Stage != certs.Drop {
		return nil
	}
	nodes := slices.Sorted(maps.Keys(r.runner.Observed.Nodes))
	if err := rotate.RefuseUnmanaged(rotate.UnmanagedNodes(nodes, r.infra, r.file)); err != nil {
		return fmt.Errorf("stage %s was not begun; `slipway %s` goes on once that is seen to: %w", next.Stage, r.wish.Command, err)
	}
	return nil
}
