package converge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/plan"
)

const (
	// rollAtOnce is how many workloads are rolled at a time.
	rollAtOnce = 8
	// rollInterval is how often it checks whether users have done their part.
	rollInterval = 2 * time.Second
)

// rollWorkloads replaces the pods that started before the previous stage was proven: their programs
// may have read the CA or a token only once, at their start. It waits for pods without a
// controller.
func (r *Runner) rollWorkloads(ctx context.Context, _ plan.Step) error {
	how, since := plan.RollingOf(r.Input.PKI.Rotation), staleBefore(r.Input.PKI.Rotation)
	workloads, err := r.API.Workloads(ctx)
	if err != nil {
		return err
	}
	stale := kube.Stale(workloads, since)
	if !how.Manual {
		if err := blocked(stale); err != nil {
			return err
		}
		report := func(w kube.Workload, what string) { r.report("cluster", w.String()+": "+what) }
		if err := r.API.RolloutAll(ctx, stale, since, rollAtOnce, report); err != nil {
			return err
		}
	}
	said := ""
	return live.WaitEvery(ctx, rollInterval, "pods may know only the old CA or token", func(ctx context.Context) error {
		workloads, err := r.API.Workloads(ctx)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(kube.Stale(workloads, since), func(w kube.Workload) bool {
			return how.SkipUnmanaged && w.Strategy == kube.Unmanaged
		})
		if len(left) == 0 {
			return nil
		}
		if text := "waiting for you to replace " + workloadNames(left); text != said {
			r.report("cluster", text)
			said = text
		}
		return fmt.Errorf("%s", workloadNames(left))
	})
}

// workloadNames lists workloads.
func workloadNames(workloads []kube.Workload) string {
	var all []string
	for _, w := range workloads {
		all = append(all, w.String())
	}
	return strings.Join(all, ", ")
}

// staleBefore returns the time after which a pod must have started in stage rollout, so that it
// cannot have read the old CA or token.
func staleBefore(r *certs.Rotation) time.Time {
	return r.Passed[len(r.Passed)-1].At.Add(time.Second) // pods know their age in whole seconds
}

// blocked returns an error for workloads whose budgets never allow the eviction. Other workloads
// are not replaced then, either.
func blocked(workloads []kube.Workload) error {
	reasons := plan.Blocked(workloads)
	if len(reasons) == 0 {
		return nil
	}
	return fmt.Errorf("no workload was replaced, and the rotation stays in its stage, since:\n  %s", strings.Join(reasons, "\n  "))
}

// roll determines what stage rollout would do; nil if no proof needs it.
func (v *View) roll(ctx context.Context, s plan.Situation) *plan.Roll {
	if !slices.Contains(s.Proofs, plan.Proof{Verb: plan.RollWorkloads}) {
		return nil
	}
	roll := &plan.Roll{Rolling: plan.RollingOf(v.Input.PKI.Rotation), APIError: s.APIError}
	if roll.APIError == "" {
		var err error
		if roll.Workloads, err = workloadsLeft(ctx, v.API, v.Input.PKI.Rotation); err != nil {
			roll.APIError = err.Error()
		}
	}
	return roll
}
