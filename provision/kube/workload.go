package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Way is how the pods of a workload are replaced.
type Way string

// The ways, from the smoothest on.
const (
	// Restart is a rollout restart, as of `kubectl rollout restart`: the workload's own controller replaces its pods.
	Restart Way = "restart"
	// Evict is pod by pod, through the Eviction API, which respects disruption budgets.
	Evict Way = "evict"
	// Unmanaged is what nothing would replace, or what should run to its end: it is left to its owner.
	Unmanaged Way = "unmanaged"
)

// Workload is pods that read the cluster's CA or a service account's token, under the controller that made them.
type Workload struct {
	// Kind is that of the top controller, "Deployment"; "Pod" for one that has none.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pods by name: those that read it and have not ended. Others of the same controller are not among them.
	Pods []Pod `json:"pods"`
	// Budgets cover any of its pods, by name.
	Budgets []Budget `json:"budgets,omitempty"`
	Way     Way      `json:"way"`
	// Why it is not a rollout restart; empty for Restart.
	Why string `json:"why,omitempty"`

	// replicas is how many pods it should have; 0 where nothing is known of its controller.
	replicas int32
	// crowded are two budgets that cover the same pod.
	crowded []string
}

func (w Workload) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }

// Pod is one of a workload's.
type Pod struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Started is when the longest running of its containers did, or before, in whole seconds of the API server's clock,
	// whatever that of its node shows; where none runs, when the pod was made.
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	// Ending is one that has been deleted, and is not gone.
	Ending bool `json:"ending,omitempty"`
}

// Budget is a PodDisruptionBudget in the workload's namespace.
type Budget struct {
	Name string `json:"name"`
	// Allowed is how many disruptions it allows now, by its status.
	Allowed int32 `json:"allowed"`
	// Shared says that it covers pods of others, too: they may be down when this workload's rollout counts on them.
	Shared bool `json:"shared,omitempty"`

	minAvailable, maxUnavailable *intstr.IntOrString
}

// tolerates is how many of a workload's replicas the budget lets be down, where it covers nothing else. The rounding is
// that of the disruption controller (getExpectedPodCount).
func (b Budget) tolerates(replicas int32) int32 {
	if b.maxUnavailable != nil {
		return min(scaled(b.maxUnavailable, replicas, true), replicas)
	}
	if b.minAvailable != nil {
		return max(0, replicas-scaled(b.minAvailable, replicas, true))
	}
	return 0
}

// scaled resolves a number or a percentage of a total; what cannot be read is 0.
func scaled(v *intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(total), up)
	if err != nil {
		return 0
	}
	return int32(n) //nolint:gosec // G115: a number of pods
}

// decide chooses the way, by what the controller would do and what the budgets demand.
func (w *Workload) decide(k *controller) {
	w.Way, w.Why = Evict, ""
	switch {
	case k == nil:
		w.Way, w.Why = Unmanaged, bareWhy(w.Kind)
		return
	case k.uneven != "":
		w.Why = k.uneven
	default:
		w.Why = w.tooLoose(k)
	}
	w.replicas = k.replicas
	switch {
	case w.Why == "":
		w.Way = Restart
	case len(w.crowded) > 0:
		w.Way = Unmanaged
		w.Why += "; budgets " + strings.Join(w.crowded, " and ") + " cover the same pod, which the Eviction API refuses"
	}
}

func bareWhy(kind string) string {
	switch kind {
	case "Pod":
		return "nothing would replace it"
	case "Job", "CronJob":
		return "its pods run to their end"
	}
	if _, known := kindNamed(kind); known {
		return "its " + kind + " is gone"
	}
	return "it is not known whether a " + kind + " replaces pods"
}

// tooLoose says why the controller's own update could go below what a budget demands; empty if it cannot.
func (w *Workload) tooLoose(k *controller) string {
	for _, b := range w.Budgets {
		switch tolerated := b.tolerates(k.replicas); {
		case b.Shared && k.unavailable > 0:
			return fmt.Sprintf("budget %s covers pods of others, too", b.Name)
		case k.careless && k.unavailable > 0:
			return "its update strategy does not mind pods that are down already"
		case k.unavailable > tolerated:
			return fmt.Sprintf("its update strategy takes %d at a time, budget %s tolerates %d", k.unavailable, b.Name, tolerated)
		}
	}
	return ""
}

// Describe says how it would be rolled: "evict one by one (strategy Recreate), budget default/web allows 1".
func (w Workload) Describe() string {
	switch w.Way {
	case Restart:
		return "rollout restart"
	case Evict:
		text := "evict one by one (" + w.Why + ")"
		for _, b := range w.Budgets {
			text += fmt.Sprintf(", budget %s/%s allows %d", w.Namespace, b.Name, b.Allowed)
		}
		return text
	}
	return "left to you: " + w.Why
}

// Blocked says why evicting cannot ever succeed as things are; empty where it can.
func (w Workload) Blocked() string {
	if w.Way != Evict {
		return ""
	}
	for _, b := range w.Budgets {
		if !b.Shared && b.tolerates(w.replicas) == 0 {
			return fmt.Sprintf("budget %s/%s never allows any of %d pods to be evicted: relax it meanwhile, or add replicas",
				w.Namespace, b.Name, w.replicas)
		}
	}
	return ""
}

// Stale gives the workloads with pods that started before a time, with only those pods. They may still hold what was
// there before. A pod that was deleted and is not gone counts.
//
// since should be a full second back and of an API server's clock, for pods know their age in whole seconds.
func Stale(workloads []Workload, since time.Time) []Workload {
	var stale []Workload
	for _, w := range workloads {
		if w.Pods = stalePods(w.Pods, since); len(w.Pods) > 0 {
			stale = append(stale, w)
		}
	}
	return stale
}

func stalePods(pods []Pod, since time.Time) []Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p Pod) bool { return !p.Started.Before(since) })
}

// next picks the pod to evict now, of all that a workload has by name, or says what is waited for. Pods that are down already
// come first. One that is up has to wait until every replacement is Ready, and none is missing.
func next(pods []Pod, since time.Time, replicas int32) (pod *Pod, wait string) {
	var stale []Pod
	var live int32
	for _, p := range pods {
		if p.Ending {
			continue
		}
		live++
		if p.Started.Before(since) {
			stale = append(stale, p)
		} else if !p.Ready {
			wait = p.Name + " is not Ready"
		}
	}
	if live < replicas {
		wait = fmt.Sprintf("%d of %d pods are there", live, replicas)
	}
	if len(stale) == 0 {
		return nil, wait
	}
	first := &stale[max(0, slices.IndexFunc(stale, func(p Pod) bool { return !p.Ready }))]
	if wait == "" || !first.Ready {
		return first, ""
	}
	return nil, wait
}

// chains groups workloads so that those which share a budget, directly or by way of others, are in one group. Groups may
// be rolled side by side, those in a group only one after the other.
func chains(workloads []Workload) [][]Workload {
	var groups [][]Workload
	for _, w := range workloads {
		var joined []Workload
		groups = slices.DeleteFunc(groups, func(g []Workload) bool {
			shares := slices.ContainsFunc(g, func(o Workload) bool { return shareBudget(o, w) })
			if shares {
				joined = append(joined, g...)
			}
			return shares
		})
		groups = append(groups, append(joined, w))
	}
	return groups
}

func shareBudget(a, b Workload) bool {
	return a.Namespace == b.Namespace && slices.ContainsFunc(a.Budgets, func(x Budget) bool {
		return slices.ContainsFunc(b.Budgets, func(y Budget) bool { return x.Name == y.Name })
	})
}
