package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Strategy is the strategy to replace the pods of a workload.
type Strategy string

// The strategies, in order of preference.
const (
	// Restart is a rollout restart, like `kubectl rollout restart`: the workload's controller
	// replaces its pods.
	Restart Strategy = "restart"
	// Evict evicts pod by pod through the Eviction API, which respects disruption budgets.
	Evict Strategy = "evict"
	// Unmanaged pods would not be replaced, or should run to completion: they are left to their
	// owner.
	Unmanaged Strategy = "unmanaged"
)

// Workload is a top controller with its pods that read the cluster's CA or a service account's
// token.
type Workload struct {
	// Kind of the top controller, "Deployment"; "Pod" if there is none.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pods by name: only those that read it and have not ended.
	Pods []Pod `json:"pods"`
	// Budgets cover any of its pods, by name.
	Budgets  []Budget `json:"budgets,omitempty"`
	Strategy Strategy `json:"way"`
	// Why it is not Restart; empty for Restart.
	Why string `json:"why,omitempty"`

	// replicas is the desired number of pods; 0 if its controller is unknown.
	replicas int32
	// crowded are two budgets that cover the same pod.
	crowded []string
}

func (w Workload) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }

// Pod is one of a workload's.
type Pod struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Started is at or before the start of its longest-running container, in whole seconds of the
	// API server's clock, independent of the node's clock. If no container runs, it is the pod's
	// creation.
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	// Ending means that it has been deleted but is not gone yet.
	Ending bool `json:"ending,omitempty"`
}

// Budget is a PodDisruptionBudget in the workload's namespace.
type Budget struct {
	Name string `json:"name"`
	// Allowed is the number of disruptions that its status allows now.
	Allowed int32 `json:"allowed"`
	// Shared means that it also covers pods of other workloads, which may be down during this
	// workload's rollout.
	Shared bool `json:"shared,omitempty"`

	minAvailable, maxUnavailable *intstr.IntOrString
}

// tolerates returns how many of a workload's replicas the budget allows to be down, if it covers
// nothing else. It rounds like the disruption controller (getExpectedPodCount).
func (b Budget) tolerates(replicas int32) int32 {
	if b.maxUnavailable != nil {
		return min(scaled(b.maxUnavailable, replicas, true), replicas)
	}
	if b.minAvailable != nil {
		return max(0, replicas-scaled(b.minAvailable, replicas, true))
	}
	return 0
}

// scaled resolves a number or a percentage of a total; invalid values are 0.
func scaled(v *intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(total), up)
	if err != nil {
		return 0
	}
	return int32(n) //nolint:gosec // G115: a number of pods
}

// decide chooses the strategy from the controller's behaviour and the budgets.
func (w *Workload) decide(k *controller) {
	w.Strategy, w.Why = Evict, ""
	switch {
	case k == nil:
		w.Strategy, w.Why = Unmanaged, bareWhy(w.Kind)
		return
	case k.uneven != "":
		w.Why = k.uneven
	default:
		w.Why = w.tooLoose(k)
	}
	w.replicas = k.replicas
	switch {
	case w.Why == "":
		w.Strategy = Restart
	case len(w.crowded) > 0:
		w.Strategy = Unmanaged
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

// tooLoose returns why the controller's own update could violate a budget, or "".
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

// Describe says how it would be replaced: "evict one by one (strategy Recreate), budget default/web
// allows 1".
func (w Workload) Describe() string {
	switch w.Strategy {
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

// Blocked returns why an eviction can currently never succeed, or "".
func (w Workload) Blocked() string {
	if w.Strategy != Evict {
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

// Stale returns the workloads with pods that started before since, with only those pods, which may
// still use old files. A deleted pod counts until it is gone.
//
// since should be by an API server's clock and at least one second ago, because pods record whole
// seconds.
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

// next picks the pod to evict now, from all pods of a workload by name, or returns what to wait
// for. Pods that are already down come first. A running pod is only evicted if every replacement is
// Ready and none is missing.
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

// chains groups workloads that share budgets directly or indirectly. Groups may be rolled in
// parallel; the workloads in a group one after the other.
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
