package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// survey asks the cluster about what a rotation still meets there. It changes nothing. Where one begins, the cluster has to
// answer, and to be as its spec asks; to go on with one that is not needed, and that it did not answer is said.
func (r *rotateRun) survey(ctx context.Context, o *rotationOverview, s *stored, rotation *certs.Rotation, artifacts map[string]stack.Artifact) error {
	switch {
	case o.begins && rotation.Expired:
		o.Unasked = "authorities have expired"
		return nil
	case !o.begins && !o.rolls && !cutsOff(rotation):
		return nil
	}
	r.leaving = rotation.Names
	s = &stored{Material: maps.Clone(s.Material), Rotation: rotation}
	secrets, err := secretsOf(ctx, s, nil, r.spec, r.found, r.own)
	if err != nil && !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	hosts, closeAll, err := r.reach(ctx, o, artifacts)
	if err != nil {
		return err
	}
	defer closeAll()
	r.progress.Phase("workloads")
	found, err := converge.NewSurvey(ctx, stack.Input{Cluster: r.spec, Machines: r.found.Machines, PKI: secrets.PKI}, hosts)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && o.begins:
		return fmt.Errorf("%w; nothing was changed", err)
	case err != nil:
		o.Unasked = err.Error()
		return nil
	}
	o.roll(found.Workloads, plan.RollingOf(rotation))
	o.TokenSecrets = append(o.TokenSecrets, found.TokenSecrets...)
	if cutsOff(rotation) {
		o.Strays = append(o.Strays, strays(found.Nodes, r.found, r.file)...)
	}
	return nil
}

// reach connects to hosts: where a rotation begins to all, and finds out what differs there, else to those control planes
// that answer.
func (r *rotateRun) reach(ctx context.Context, o *rotationOverview, artifacts map[string]stack.Artifact) (map[string]host.Host, func(), error) {
	if !o.begins {
		controlPlanes := slices.DeleteFunc(slices.Clone(r.found.Machines), func(m spec.Machine) bool { return m.Role != spec.ControlPlane })
		hosts, closeAll, _ := dialAll(ctx, controlPlanes, r.connectTimeout) // one is enough; without any, the API does not answer
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
	o.OtherChanges = otherChanges(todo)
	return r.hosts, closeAll, nil
}

// otherChanges counts what a plan that knows of no rotation would do.
func otherChanges(todo *plan.Plan) int {
	n := 0
	for _, c := range todo.Changes {
		if !c.Bookkeeping() {
			n++
		}
	}
	return n
}

// roll says what becomes of workloads.
func (o *rotationOverview) roll(workloads []kube.Workload, how plan.Rolling) {
	for _, w := range workloads {
		text := w.Describe()
		switch {
		case w.Way == kube.Unmanaged && how.Forsake:
			text = "not waited for: " + w.Why
		case how.Leave && w.Way != kube.Unmanaged:
			text = "left to you (--no-rollout)"
		}
		o.Workloads = append(o.Workloads, rolledWorkload{w, text})
	}
	if !how.Leave {
		o.Blocked = append(o.Blocked, plan.Blocked(workloads)...)
	}
}

// strayNode is one that slipway does not reach.
type strayNode struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (n strayNode) String() string { return n.Name + ": " + n.Why }

// cutsOff says whether a rotation has stages ahead that would cut off a node which slipway does not reach: at issue its
// kubelet trusts no server, at drop none takes it. Other authorities are of no concern to kubelets. Where the old have
// expired nothing is left to be cut off, and going back is to what such a node knows.
func cutsOff(r *certs.Rotation) bool {
	return r.Has(certs.KubernetesCA) && !r.Back && !r.Expired
}

// strays are the nodes, by name, that are not machines of the spec, and machines that it does not have any more.
func strays(nodes []string, infra *spec.Infrastructure, file string) []strayNode {
	var all []strayNode
	for _, m := range infra.Surplus {
		all = append(all, strayNode{m.Name, fmt.Sprintf(
			"its machine is not in %s any more: put it back, or remove the machine and run `kubectl delete node %s`", file, m.Name)})
	}
	for _, name := range nodes {
		known := func(m spec.Machine) bool { return m.Name == name }
		if !slices.ContainsFunc(infra.Machines, known) && !slices.ContainsFunc(infra.Surplus, known) {
			all = append(all, strayNode{name, fmt.Sprintf(
				"no machine of %s: put it there, or take it out of the cluster and run `kubectl delete node %s`", file, name)})
		}
	}
	slices.SortFunc(all, func(a, b strayNode) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// refuseStrays says why a rotation does not begin or go on with nodes that it would cut off.
func refuseStrays(found []strayNode) error {
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, n := range found {
		lines = append(lines, n.String())
	}
	return fmt.Errorf("nodes that slipway does not reach would be cut off, trusting no API server and trusted by none:\n  %s", strings.Join(lines, "\n  "))
}

// checkStrays looks once more, before the stages that cut nodes off: since the rotation began some may have come.
func (r *rotateRun) checkStrays(next *certs.Rotation) error {
	if next == nil || !cutsOff(next) || next.Stage != certs.Issue && next.Stage != certs.Drop {
		return nil
	}
	nodes := slices.Sorted(maps.Keys(r.runner.Observed.Nodes))
	if err := refuseStrays(strays(nodes, r.infra, r.file)); err != nil {
		return fmt.Errorf("stage %s was not begun; `slipway %s` goes on once that is seen to: %w", next.Stage, r.command, err)
	}
	return nil
}

// refuse says why a rotation does not begin. One that is under way goes on as far as it can.
func (o *rotationOverview) refuse() error {
	if !o.begins {
		return nil
	}
	var errs []error
	if o.OtherChanges > 0 {
		errs = append(errs, fmt.Errorf("the cluster is not as its spec asks (%s), and a rotation would carry that out, too: run `slipway apply` first",
			plural(o.OtherChanges, "change")))
	}
	errs = append(errs, refuseStrays(o.Strays))
	if len(o.Blocked) > 0 {
		errs = append(errs, fmt.Errorf("the stage rollout could never end, since:\n  %s\nor leave workloads to yourself with --no-rollout",
			strings.Join(o.Blocked, "\n  ")))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}
