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

// Survey queries the cluster for what the rotation will affect there. It changes nothing. To begin
// a rotation, the cluster has to answer, and to be as its spec asks; to continue one, it need not:
// then the error is part of the overview.
func (c Cluster) Survey(
	ctx context.Context, o *Overview, s *keys.Stored, rotation *certs.Rotation, reach func(context.Context) (map[string]host.Host, func(), error),
) error {
	switch {
	case o.Begins && rotation.Expired:
		o.APIError = "CAs have expired"
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

// OtherChanges counts the changes of a plan without the rotation.
func OtherChanges(todo *plan.Plan) int {
	n := 0
	for _, c := range todo.Changes {
		if !c.Bookkeeping() {
			n++
		}
	}
	return n
}

// Roll sets what happens to workloads.
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

// UnmanagedNode is a node that slipway does not manage.
type UnmanagedNode struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (n UnmanagedNode) String() string { return n.Name + ": " + n.Why }

// CutsOff reports whether later stages would cut off an unmanaged node: at issue its kubelet trusts
// no server, at drop no server accepts it. Kubelets do not use the other CAs. If the old CAs have
// expired, the node has already lost access, and a rollback returns to CAs that it knows.
func CutsOff(r *certs.Rotation) bool {
	return r.Has(certs.KubernetesCA) && !r.Back && !r.Expired
}

// UnmanagedNodes returns the nodes, by name, that are not machines of the spec, and the machines
// that are no longer in it.
func UnmanagedNodes(nodes []string, infra *spec.Infrastructure, file string) []UnmanagedNode {
	var all []UnmanagedNode
	for _, m := range infra.Surplus {
		all = append(all, UnmanagedNode{m.Name, fmt.Sprintf(
			"its machine is no longer in %s: put it back, or remove the machine and run `kubectl delete node %s`", file, m.Name)})
	}
	for _, name := range nodes {
		known := func(m spec.Machine) bool { return m.Name == name }
		if !slices.ContainsFunc(infra.Machines, known) && !slices.ContainsFunc(infra.Surplus, known) {
			all = append(all, UnmanagedNode{name, fmt.Sprintf(
				"it is not in %s: add it there, or remove it from the cluster and run `kubectl delete node %s`", file, name)})
		}
	}
	slices.SortFunc(all, func(a, b UnmanagedNode) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// RefuseUnmanaged says why a rotation neither begins nor continues with nodes that it would cut
// off.
func RefuseUnmanaged(found []UnmanagedNode) error {
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, n := range found {
		lines = append(lines, n.String())
	}
	return fmt.Errorf("unmanaged nodes would lose access to the API server:\n  %s", strings.Join(lines, "\n  "))
}

// Refuse says why a rotation does not begin. A running one continues as far as it can.
func (o *Overview) Refuse() error {
	if !o.Begins {
		return nil
	}
	var errs []error
	if o.OtherChanges > 0 {
		errs = append(errs, fmt.Errorf("the cluster is not as its spec requires (%s), and a rotation would change that, too: run `slipway apply` first",
			plan.Count(o.OtherChanges, "change")))
	}
	errs = append(errs, RefuseUnmanaged(o.Unmanaged))
	if len(o.Blocked) > 0 {
		errs = append(errs, fmt.Errorf("the stage rollout could never complete, since:\n  %s\nor replace workloads yourself, with --no-rollout",
			strings.Join(o.Blocked, "\n  ")))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}

// RefuseNext checks the nodes in the API again before the stages that cut nodes off: some may have
// joined since the rotation began. next is the next stage, nil for none; command continues the
// rotation.
func RefuseNext(next *certs.Rotation, nodes []string, infra *spec.Infrastructure, file, command string) error {
	if next == nil || !CutsOff(next) || next.Stage != certs.Issue && next.Stage != certs.Drop {
		return nil
	}
	if err := RefuseUnmanaged(UnmanagedNodes(nodes, infra, file)); err != nil {
		return fmt.Errorf("stage %s was not started; `slipway %s` continues once that is fixed: %w", next.Stage, command, err)
	}
	return nil
}
