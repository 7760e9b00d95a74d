package plan

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
)

// Rolling is how pods of workloads are replaced.
type Rolling struct {
	// Manual leaves all of them to the user, and waits until they are replaced.
	Manual bool
	// SkipUnmanaged does not wait for pods without a controller that would replace them, nor for pods that run to their end.
	SkipUnmanaged bool
}

// RollingOf returns the choices of a rotation about workloads.
func RollingOf(r *certs.Rotation) Rolling {
	return Rolling{Manual: r.NoRollout, SkipUnmanaged: r.SkipUnmanaged}
}

// Blocked returns, sorted, a reason for every workload whose budgets never allow it to be rolled.
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

// Roll is what stage rollout of a rotation will do.
type Roll struct {
	Rolling
	// Workloads that it replaces or waits for, each with the pods to replace.
	Workloads []kube.Workload
	// APIError says why they are not known.
	APIError string
}

// disruptions of workloads: those that it replaces, and those that it waits for users to replace.
func (r *Roll) disruptions() []Disruption {
	if r.APIError != "" {
		return []Disruption{{What: "workloads to replace", Effect: "unknown, since the API could not be queried (" + r.APIError + ")"}}
	}
	const waits = "the stage waits until you have replaced "
	var all []Disruption
	if managed := r.workloads(false); len(managed) > 0 {
		d := Disruption{
			What: countPods(managed) + " to replace", How: "through their controllers and within disruption budgets",
			Effect: "restarts pods of " + some(managed),
		}
		if r.Manual {
			d = Disruption{What: countPods(managed) + " left to you (--no-rollout)", Effect: waits + some(managed)}
		}
		all = append(all, d)
	}
	if unmanaged := r.workloads(true); len(unmanaged) > 0 {
		d := Disruption{What: countPods(unmanaged) + " that nothing would replace", Effect: waits + some(unmanaged)}
		if r.SkipUnmanaged {
			d.Effect = "not waited for (--leave-unmanaged), and may lose the API: " + some(unmanaged)
		}
		all = append(all, d)
	}
	return all
}

// workloads returns the pods that nothing would replace, or all others.
func (r *Roll) workloads(unmanaged bool) []kube.Workload {
	return slices.DeleteFunc(slices.Clone(r.Workloads), func(w kube.Workload) bool { return (w.Strategy == kube.Unmanaged) != unmanaged })
}

// countPods returns, for example, "2 workloads (5 pods)".
func countPods(workloads []kube.Workload) string {
	pods := 0
	for _, w := range workloads {
		pods += len(w.Pods)
	}
	return fmt.Sprintf("%s (%s)", Count(len(workloads), "workload"), Count(pods, "pod"))
}

// Count returns, for example, "1 change" or "3 changes".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// some returns the first names of many workloads.
func some(workloads []kube.Workload) string {
	const most = 6
	which := names(workloads, kube.Workload.String)
	if len(which) > most {
		which = append(which[:most], fmt.Sprintf("and %d more", len(which)-most))
	}
	return strings.Join(which, ", ")
}
