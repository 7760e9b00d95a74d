package rotate

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
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// Survey asks the cluster about what a rotation still meets there. It changes nothing. Where one begins, the cluster has to
// answer, and to be as its spec asks; to go on with one that is not needed, and that it did not answer is said.
func (c Cluster) Survey(
	ctx context.Context, o *Overview, s *keys.Stored, rotation *certs.Rotation, reach func(context.Context) (map[string]host.Host, func(), error),
) error {
	switch {
	case o.Begins && rotation.Expired:
		o.APIError = "authorities have expired"
		return nil
	case !o.Begins && !o.Rolls && !CutsOff(rotation):
		return nil
	}
	s = &keys.Stored{Material: maps.Clone(s.Material), Rotation: rotation}
	secrets, err := keys.Ensure(ctx, s, nil, c.Spec, c.Found, c.Own)
	if err != nil && !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	hosts, closeAll, err := reach(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	found, err := converge.NewSurvey(ctx, stack.Input{Cluster: c.Spec, Machines: c.Found.Machines, PKI: secrets.PKI}, hosts)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && o.Begins:
		return fmt.Errorf("%w; nothing was changed", err)
	case err != nil:
		o.APIError = err.Error()
		return nil
	}
	o.Roll(found.Workloads, plan.RollingOf(rotation))
	o.TokenSecrets = append(o.TokenSecrets, found.TokenSecrets...)
	if CutsOff(rotation) {
		o.Unmanaged = append(o.Unmanaged, UnmanagedNodes(found.Nodes, c.Found, c.File)...)
	}
	return nil
}

// OtherChanges counts what a plan that knows of no rotation would do.
func OtherChanges(todo *plan.Plan) int {
	n := 0
	for _, c := range todo.Changes {
		if !c.Bookkeeping() {
			n++
		}
	}
	return n
}

// Roll says what becomes of workloads.
func (o *Overview) Roll(workloads []kube.Workload, how plan.Rolling) {
	for _, w := range workloads {
		text := w.Describe()
		switch {
		case w.Strategy == kube.Unmanaged && how.SkipUnmanaged:
			text = "not waited for: " + w.Why
		case how.Manual && w.Strategy != kube.Unmanaged:
			text = "left to you (--no-rollout)"
		}
		o.Workloads = append(o.Workloads, rolledWorkload{w, text})
	}
	if !how.Manual {
		o.Blocked = append(o.Blocked, plan.Blocked(workloads)...)
	}
}

// UnmanagedNode is one that slipway does not reach.
type UnmanagedNode struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (n UnmanagedNode) String() string { return n.Name + ": " + n.Why }

// CutsOff says whether a rotation has stages ahead that would cut off a node which slipway does not reach: at issue its
// kubelet trusts no server, at drop none takes it. Other authorities are of no concern to kubelets. Where the old have
// expired nothing is left to be cut off, and going back is to what such a node knows.
func CutsOff(r *certs.Rotation) bool {
	return r.Has(certs.KubernetesCA) && !r.Back && !r.Expired
}

// UnmanagedNodes are the nodes, by name, that are not machines of the spec, and machines that it does not have any more.
func UnmanagedNodes(nodes []string, infra *spec.Infrastructure, file string) []UnmanagedNode {
	var all []UnmanagedNode
	for _, m := range infra.Surplus {
		all = append(all, UnmanagedNode{m.Name, fmt.Sprintf(
			"its machine is not in %s any more: put it back, or remove the machine and run `kubectl delete node %s`", file, m.Name)})
	}
	for _, name := range nodes {
		known := func(m spec.Machine) bool { return m.Name == name }
		if !slices.ContainsFunc(infra.Machines, known) && !slices.ContainsFunc(infra.Surplus, known) {
			all = append(all, UnmanagedNode{name, fmt.Sprintf(
				"no machine of %s: put it there, or take it out of the cluster and run `kubectl delete node %s`", file, name)})
		}
	}
	slices.SortFunc(all, func(a, b UnmanagedNode) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// RefuseUnmanaged says why a rotation does not begin or go on with nodes that it would cut off.
func RefuseUnmanaged(found []UnmanagedNode) error {
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, n := range found {
		lines = append(lines, n.String())
	}
	return fmt.Errorf("nodes that slipway does not reach would be cut off, trusting no API server and trusted by none:\n  %s", strings.Join(lines, "\n  "))
}

// Refuse says why a rotation does not begin. One that is under way goes on as far as it can.
func (o *Overview) Refuse() error {
	if !o.Begins {
		return nil
	}
	var errs []error
	if o.OtherChanges > 0 {
		errs = append(errs, fmt.Errorf("the cluster is not as its spec asks (%s), and a rotation would carry that out, too: run `slipway apply` first",
			plan.Count(o.OtherChanges, "change")))
	}
	errs = append(errs, RefuseUnmanaged(o.Unmanaged))
	if len(o.Blocked) > 0 {
		errs = append(errs, fmt.Errorf("the stage rollout could never end, since:\n  %s\nor leave workloads to yourself with --no-rollout",
			strings.Join(o.Blocked, "\n  ")))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}

// RefuseNext looks once more at nodes of the API, before the stages that cut nodes off: some may have come since the rotation
// began. next is the stage that comes, nil for none; command continues the rotation.
func RefuseNext(next *certs.Rotation, nodes []string, infra *spec.Infrastructure, file, command string) error {
	if next == nil || !CutsOff(next) || next.Stage != certs.Issue && next.Stage != certs.Drop {
		return nil
	}
	if err := RefuseUnmanaged(UnmanagedNodes(nodes, infra, file)); err != nil {
		return fmt.Errorf("stage %s was not begun; `slipway %s` goes on once that is seen to: %w", next.Stage, command, err)
	}
	return nil
}
