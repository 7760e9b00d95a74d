package plan

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
)

// Rolling is how workloads are rolled.
type Rolling struct {
	// Manual leaves all of them to the user, and waits until they are replaced.
	Manual bool
	// SkipUnmanaged does not wait for pods without a controller that would replace them, nor for pods that run to their end.
	SkipUnmanaged bool
}

// RollingOf is how a rotation goes about workloads, as was chosen for it.
func RollingOf(r *certs.Rotation) Rolling {
	return Rolling{Manual: r.NoRollout, SkipUnmanaged: r.SkipUnmanaged}
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

// Roll is what stage rollout of a rotation is about to do.
type Roll struct {
	Rolling
	// Workloads that it replaces or waits for, each with the pods that have to go.
	Workloads []kube.Workload
	// APIError says why they are not known.
	APIError string
}

// disruptions of what runs in the cluster: what is replaced, and what people are waited for to replace.
func (r *Roll) disruptions() []Disruption {
	if r.APIError != "" {
		return []Disruption{{What: "workloads to replace", Effect: "which is not known, since the API could not be asked (" + r.APIError + ")"}}
	}
	const waits = "the stage waits until you have replaced "
	var all []Disruption
	if managed := r.workloads(false); len(managed) > 0 {
		d := Disruption{
			What: countPods(managed) + " to replace", How: "through their controllers and within disruption budgets",
			Effect: "pods start again of " + some(managed),
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

// workloads are those that nothing would replace, or all others.
func (r *Roll) workloads(unmanaged bool) []kube.Workload {
	return slices.DeleteFunc(slices.Clone(r.Workloads), func(w kube.Workload) bool { return (w.Strategy == kube.Unmanaged) != unmanaged })
}

// countPods says how many there are: "2 workloads (5 pods)".
func countPods(workloads []kube.Workload) string {
	pods := 0
	for _, w := range workloads {
		pods += len(w.Pods)
	}
	return fmt.Sprintf("%s (%s)", Count(len(workloads), "workload"), Count(pods, "pod"))
}

// Count is "1 change", "3 changes".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// some names the first of many workloads.
func some(workloads []kube.Workload) string {
	const most = 6
	which := names(workloads, kube.Workload.String)
	if len(which) > most {
		which = append(which[:most], fmt.Sprintf("and %d more", len(which)-most))
	}
	return strings.Join(which, ", ")
}
