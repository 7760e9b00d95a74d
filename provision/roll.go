package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/kube"
)

const (
	// rollAtOnce is how many workloads are rolled at a time.
	rollAtOnce = 8
	// rollInterval is how often is asked whether others have done their part.
	rollInterval = 2 * time.Second
	// rollTimeout is for what others may hold up: budgets, clients that write.
	rollTimeout = 24 * time.Hour
)

// Rolling is how workloads are rolled.
type Rolling struct {
	// Leave all of them to the user, and wait until that has happened.
	Leave bool
	// Forsake those that have no controller which would replace them, and those that run to their end: do not wait.
	Forsake bool
}

// rollWorkloads replaces the pods that began before the stage before was proven: their programs may have read authority
// or token once, at their start. What has no controller is waited for.
func (r *Runner) rollWorkloads(ctx context.Context, _ Step) error {
	passed := r.Input.PKI.Rotation.Passed
	since := passed[len(passed)-1].At.Add(time.Second) // pods know their age in whole seconds
	workloads, err := r.API.Workloads(ctx)
	if err != nil {
		return err
	}
	stale := kube.Stale(workloads, since)
	if !r.Rolling.Leave {
		if err := blocked(stale); err != nil {
			return err
		}
		report := func(w kube.Workload, what string) { r.report("cluster", w.String()+": "+what) }
		if err := r.API.RolloutAll(ctx, stale, since, rollAtOnce, report); err != nil {
			return err
		}
	}
	said := ""
	return waitEvery(ctx, rollInterval, "pods may know only what was before", func(ctx context.Context) error {
		workloads, err := r.API.Workloads(ctx)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(kube.Stale(workloads, since), func(w kube.Workload) bool {
			return r.Rolling.Forsake && w.Way == kube.Unmanaged
		})
		if len(left) == 0 {
			return nil
		}
		if text := "waiting for you to replace " + strings.Join(names(left, kube.Workload.String), ", "); text != said {
			r.report("cluster", text)
			said = text
		}
		return fmt.Errorf("%s", strings.Join(names(left, kube.Workload.String), ", "))
	})
}

// blocked names workloads whose budgets never allow what is needed. Other workloads are not touched then, either.
func blocked(workloads []kube.Workload) error {
	reasons := Blocked(workloads)
	if len(reasons) == 0 {
		return nil
	}
	return fmt.Errorf("no workload was replaced, and the rotation stays in its stage, since:\n  %s", strings.Join(reasons, "\n  "))
}

// Blocked gives, sorted, a reason for every workload whose budgets never allow it to be rolled.
func Blocked(workloads []kube.Workload) []string {
	var reasons []string
	for _, w := range workloads {
		if why := w.Blocked(); why != "" {
			reasons = append(reasons, w.String()+": "+why)
		}
	}
	slices.Sort(reasons)
	return reasons
}
