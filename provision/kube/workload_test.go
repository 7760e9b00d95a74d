package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	object := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return object
}

func TestReadsTrust(t *testing.T) {
	tokens := func(secret string) bool { return secret == "robot-token" }
	for pod, want := range map[string]bool{
		"{}": false,
		"volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token}}]}}]":                               true,
		"volumes: [{name: v, projected: {sources: [{configMap: {name: settings}}, {configMap: {name: " + rootCA + "}}]}}]": true,
		"volumes: [{name: v, projected: {sources: [{configMap: {name: settings}}, {secret: {name: password}}]}}]":          false,
		"volumes: [{name: v, projected: {sources: [{secret: {name: robot-token}}]}}]":                                      true,
		"volumes: [{name: v, configMap: {name: " + rootCA + "}}]":                                                          true,
		"volumes: [{name: v, secret: {secretName: robot-token}}]":                                                          true,
		"volumes: [{name: v, secret: {secretName: password}}, {name: w, emptyDir: {}}]":                                    false,
		"containers: [{name: c, envFrom: [{secretRef: {name: robot-token}}]}]":                                             true,
		"containers: [{name: c, envFrom: [{secretRef: {name: password}}]}]":                                                false,
		"initContainers: [{name: c, env: [{name: T, valueFrom: {secretKeyRef: {name: robot-token, key: token}}}]}]":        true,
		"containers: [{name: c, env: [{name: T, valueFrom: {configMapKeyRef: {name: " + rootCA + ", key: ca.crt}}}]}]":     true,
		"containers: [{name: c, env: [{name: T, value: robot-token}]}]":                                                    false,
	} {
		if got := readsTrust(decode[corev1.PodSpec](t, pod), tokens); got != want {
			t.Errorf("%s: %v", pod, got)
		}
	}
}

func TestStartOf(t *testing.T) {
	made := "metadata: {creationTimestamp: '2026-01-01T12:00:00Z'}\n"
	taken := "startTime: '2026-01-01T12:00:00Z'\n"
	for status, want := range map[string]string{
		"{}": "12:00:00",
		taken + "containerStatuses: [{state: {running: {startedAt: '2026-01-01T12:00:09Z'}}}, {state: {running: {startedAt: '2026-01-01T12:00:05Z'}}}]": "12:00:04",
		// One restarted, or has ended; what does not run has nothing in its memory.
		taken + "containerStatuses: [{state: {waiting: {}}}, {state: {running: {startedAt: '2026-01-01T13:00:05Z'}}}]": "13:00:04",
		// A sidecar runs on beside a container that restarted.
		taken + "initContainerStatuses: [{state: {running: {startedAt: '2026-01-01T12:00:03Z'}}}]\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T13:00:05Z'}}}]": "12:00:02",
		// The node's clock is five minutes behind, and one that restarted did so an hour later.
		"startTime: '2026-01-01T11:55:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T11:55:02Z'}}}]": "12:00:01",
		"startTime: '2026-01-01T11:55:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T12:55:00Z'}}}]": "12:59:59",
		// It is five minutes ahead.
		"startTime: '2026-01-01T12:05:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T12:05:02Z'}}}]": "12:00:01",
		"startTime: '2026-01-01T12:05:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T13:05:00Z'}}}]": "12:59:59",
		// It was set back meanwhile.
		"startTime: '2026-01-01T12:05:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T12:04:00Z'}}}]": "12:00:00",
		// The pod waited for a node: it may seem older than it is, never younger.
		"startTime: '2026-01-01T12:30:00Z'\ncontainerStatuses: [{state: {running: {startedAt: '2026-01-01T12:30:02Z'}}}]": "12:00:01",
		// A container is said to run, and the kubelet has not said since when it has the pod.
		"containerStatuses: [{state: {running: {startedAt: '2026-01-01T13:00:00Z'}}}]": "12:00:00",
	} {
		pod := decode[corev1.Pod](t, made)
		pod.Status = *decode[corev1.PodStatus](t, status)
		if got := startOf(pod).UTC().Format(time.TimeOnly); got != want {
			t.Errorf("%s: %s, want %s", status, got, want)
		}
	}
}

func TestStale(t *testing.T) {
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	workloads := []Workload{
		{Name: "a", Pods: []Pod{{Name: "a-1", Started: since.Add(-time.Second)}, {Name: "a-2", Started: since}}},
		{Name: "b", Pods: []Pod{{Name: "b-1", Started: since.Add(time.Hour)}}},
		{Name: "c", Pods: []Pod{{Name: "c-1", Started: since.Add(-time.Hour), Ending: true}}},
	}
	var got []string
	for _, w := range Stale(workloads, since) {
		for _, p := range w.Pods {
			got = append(got, p.Name)
		}
	}
	if diff := cmp.Diff([]string{"a-1", "c-1"}, got); diff != "" {
		t.Error(diff)
	}
	if len(workloads[0].Pods) != 2 {
		t.Error("what was given has changed")
	}
}

func budget(minAvailable, maxUnavailable string) Budget {
	b := Budget{Name: "web", Allowed: 1}
	if minAvailable != "" {
		v := intstr.Parse(minAvailable)
		b.minAvailable = &v
	}
	if maxUnavailable != "" {
		v := intstr.Parse(maxUnavailable)
		b.maxUnavailable = &v
	}
	return b
}

func TestBudgetTolerates(t *testing.T) {
	for _, tt := range []struct {
		min, max       string
		replicas, want int32
	}{
		{"2", "", 3, 1},
		{"3", "", 3, 0},
		{"4", "", 3, 0},
		{"0", "", 3, 3},
		{"50%", "", 3, 1}, // of 3, 2 must be there
		{"100%", "", 3, 0},
		{"", "1", 3, 1},
		{"", "0", 3, 0},
		{"", "30%", 4, 2}, // rounded up, as Kubernetes does
		{"", "5", 3, 3},
		{"", "", 3, 0},
	} {
		if got := budget(tt.min, tt.max).tolerates(tt.replicas); got != tt.want {
			t.Errorf("minAvailable %q, maxUnavailable %q of %d: %d, want %d", tt.min, tt.max, tt.replicas, got, tt.want)
		}
	}
}

const (
	deployment  = "metadata: {name: web, namespace: default, generation: 3}\nspec: {selector: {matchLabels: {app: web}}, replicas: 4, strategy: %s}"
	statefulSet = "metadata: {name: web, namespace: default}\nspec: {selector: {matchLabels: {app: web}}, replicas: 3, %s}"
	daemonSet   = "metadata: {name: web, namespace: default}\nspec: {selector: {matchLabels: {app: web}}, updateStrategy: %s}\nstatus: {desiredNumberScheduled: 10, updatedNumberScheduled: 10}"
)

// TestDecide goes through strategies and budgets: a rollout restart only where the strategy keeps
// to the budget for sure.
func TestDecide(t *testing.T) {
	loose := "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 50%, maxSurge: 0}}"
	usual := "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 25%, maxSurge: 25%}}"
	surge := "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}"
	shared := budget("", "50%")
	shared.Shared = true
	for _, tt := range []struct {
		object  any
		budgets []Budget
		want    string
	}{
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, usual)), nil, "rollout restart"},
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, loose)), nil, "rollout restart"},
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, usual)), []Budget{budget("3", "")}, "rollout restart"},
		{
			decode[appsv1.Deployment](t, fmt.Sprintf(deployment, loose)),
			[]Budget{budget("3", "")},
			"evict one by one (its update strategy takes 2 at a time, budget web tolerates 1), budget default/web allows 1",
		},
		{
			decode[appsv1.Deployment](t, fmt.Sprintf(deployment, usual)),
			[]Budget{budget("", "0")},
			"evict one by one (its update strategy takes 1 at a time, budget web tolerates 0), budget default/web allows 1",
		},
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, surge)), []Budget{budget("", "0")}, "rollout restart"},
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, surge)), []Budget{shared}, "rollout restart"},
		{
			decode[appsv1.Deployment](t, fmt.Sprintf(deployment, usual)),
			[]Budget{shared},
			"evict one by one (budget web covers pods of others, too), budget default/web allows 1",
		},
		// Percentages that both come to nothing are one at a time.
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 1%, maxSurge: 0}}")), []Budget{budget("3", "")}, "rollout restart"},
		{decode[appsv1.Deployment](t, fmt.Sprintf(deployment, "{type: Recreate}")), nil, "evict one by one (strategy Recreate)"},
		{decode[appsv1.Deployment](t, strings.Replace(fmt.Sprintf(deployment, usual), "replicas", "paused: true, replicas", 1)), nil, "evict one by one (it is paused)"},
		{
			decode[appsv1.Deployment](t, strings.Replace(fmt.Sprintf(deployment, usual), "name: web", "name: web, ownerReferences: [{kind: Shop, name: s, controller: true}]", 1)),
			nil, "evict one by one (Shop s owns it, and may undo a change of it)",
		},
		{
			decode[appsv1.Deployment](t, fmt.Sprintf(deployment, "{type: Recreate}")),
			[]Budget{budget("1", ""), budget("2", "")},
			"left to you: strategy Recreate; budgets web and web cover the same pod, which the Eviction API refuses",
		},
		{decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "updateStrategy: {type: RollingUpdate}")), []Budget{budget("2", "")}, "rollout restart"},
		{decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "podManagementPolicy: Parallel, updateStrategy: {type: RollingUpdate}")), nil, "rollout restart"},
		{
			decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "podManagementPolicy: Parallel, updateStrategy: {type: RollingUpdate}")),
			[]Budget{budget("2", "")},
			"evict one by one (its update strategy does not mind pods that are down already), budget default/web allows 1",
		},
		{
			decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}")),
			[]Budget{budget("2", "")},
			"evict one by one (its update strategy takes 2 at a time, budget web tolerates 1), budget default/web allows 1",
		},
		{decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}")), nil, "evict one by one (its update is partitioned)"},
		{
			decode[appsv1.StatefulSet](t, fmt.Sprintf(statefulSet, "updateStrategy: {type: OnDelete}")+"\nstatus: {updateRevision: b, currentRevision: a}"), nil,
			"evict one by one (strategy OnDelete; it gets the template that waits for that)",
		},
		{decode[appsv1.DaemonSet](t, fmt.Sprintf(daemonSet, "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 11%}}")), []Budget{budget("8", "")}, "rollout restart"},
		{
			decode[appsv1.DaemonSet](t, fmt.Sprintf(daemonSet, "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 11%}}")),
			[]Budget{budget("9", "")},
			"evict one by one (its update strategy takes 2 at a time, budget web tolerates 1), budget default/web allows 1",
		},
		{decode[appsv1.DaemonSet](t, fmt.Sprintf(daemonSet, "{type: OnDelete}")), nil, "evict one by one (strategy OnDelete)"},
		{decode[appsv1.ReplicaSet](t, "metadata: {name: web, namespace: default}"), nil, "evict one by one (a ReplicaSet has no update strategy)"},
		{decode[corev1.ReplicationController](t, "metadata: {name: web, namespace: default}"), nil, "evict one by one (a ReplicationController has no update strategy)"},
	} {
		name := strings.TrimPrefix(fmt.Sprintf("%T", tt.object), "*v1.")
		kind, ok := kindNamed(name)
		if !ok {
			t.Fatal(name)
		}
		w := Workload{Kind: name, Namespace: "default", Name: "web", Budgets: tt.budgets}
		if len(tt.budgets) > 1 {
			w.crowded = []string{"web", "web"}
		}
		w.decide(kind.controllerOf(tt.object.(metav1.Object)))
		if got := w.Describe(); got != tt.want {
			t.Errorf("%+v:\n got %s\nwant %s", tt.object, got, tt.want)
		}
		if (w.Strategy == Restart) != (w.Why == "") {
			t.Errorf("%s, because %q", w.Strategy, w.Why)
		}
	}
}

func TestBlocked(t *testing.T) {
	w := Workload{Namespace: "default", Strategy: Evict, Budgets: []Budget{budget("3", "")}, replicas: 3}
	if got := w.Blocked(); !strings.HasPrefix(got, "budget default/web never allows any of 3 pods") {
		t.Errorf("%q", got)
	}
	for name, free := range map[string]func(*Workload){
		"a restart":       func(w *Workload) { w.Strategy = Restart },
		"more replicas":   func(w *Workload) { w.replicas = 4 },
		"a shared budget": func(w *Workload) { w.Budgets[0].Shared = true },
	} {
		w := w
		w.Budgets = []Budget{budget("3", "")}
		if free(&w); w.Blocked() != "" {
			t.Errorf("%s: %s", name, w.Blocked())
		}
	}
}

func TestRolled(t *testing.T) {
	const d = "metadata: {generation: 3}\nspec: {replicas: 2, selector: {}}\nstatus: %s"
	for status, want := range map[string]bool{
		"{observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2}": true,
		"{observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2}": false,
		"{observedGeneration: 3, replicas: 3, updatedReplicas: 2, availableReplicas: 3}": false,
		"{observedGeneration: 3, replicas: 2, updatedReplicas: 1, availableReplicas: 2}": false,
		"{observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 1}": false,
	} {
		kind, _ := kindNamed("Deployment")
		if got := kind.controllerOf(decode[appsv1.Deployment](t, fmt.Sprintf(d, status))).rolled(); got != want {
			t.Errorf("Deployment %s: %v", status, got)
		}
	}
	kind, _ := kindNamed("StatefulSet")
	for status, want := range map[string]bool{
		"{replicas: 2, updatedReplicas: 2, availableReplicas: 2}": true,
		"{replicas: 2, updatedReplicas: 1, availableReplicas: 2}": false,
	} {
		text := "spec: {replicas: 2, selector: {}}\nstatus: " + status
		if got := kind.controllerOf(decode[appsv1.StatefulSet](t, text)).rolled(); got != want {
			t.Errorf("StatefulSet %s: %v", status, got)
		}
	}
	kind, _ = kindNamed("DaemonSet")
	for status, want := range map[string]bool{
		"{desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2}": true,
		"{desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 1, numberAvailable: 2}": false,
		"{desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 1}": false,
	} {
		if got := kind.controllerOf(decode[appsv1.DaemonSet](t, "spec: {selector: {}}\nstatus: "+status)).rolled(); got != want {
			t.Errorf("DaemonSet %s: %v", status, got)
		}
	}
}

// TestNext writes a pod as a letter: o old, n new, upper case where it is Ready, e old and ending.
func TestNext(t *testing.T) {
	since := time.Now()
	for pods, want := range map[string]string{
		"OOO":  "0",
		"NOO":  "1",
		"nOO":  "wait: 0 is not Ready",
		"nOo":  "2", // what is down already costs nothing
		"OoO":  "1",
		"eOO":  "wait: 2 of 3 pods are there",
		"eoO":  "1",
		"eNN":  "wait: 2 of 3 pods are there",
		"NNn":  "wait: 2 is not Ready",
		"NNN":  "",
		"ONNN": "0", // more than wanted: a surge, or a scale down that is under way
	} {
		var all []Pod
		for i, letter := range pods {
			p := Pod{Name: fmt.Sprint(i), Started: since.Add(-time.Minute), Ready: strings.ContainsRune("ON", letter), Ending: letter == 'e'}
			if letter == 'n' || letter == 'N' {
				p.Started = since.Add(time.Minute)
			}
			all = append(all, p)
		}
		pod, wait := next(all, since, 3)
		got := ""
		if pod != nil {
			got = pod.Name
		} else if wait != "" {
			got = "wait: " + wait
		}
		if got != want {
			t.Errorf("%s: %q, want %q", pods, got, want)
		}
	}
}

func TestChains(t *testing.T) {
	// A letter is a workload with those budgets: a workload is "namespace:budgets".
	for text, want := range map[string]string{
		"":                     "",
		"x: x: x:":             "x: | x: | x:",
		"x:a x:b x:a":          "x:b | x:a x:a",
		"x:a y:a":              "x:a | y:a",
		"x:a x:b x:c x:ab x:d": "x:c | x:a x:b x:ab | x:d",
	} {
		var workloads []Workload
		for _, word := range strings.Fields(text) {
			namespace, budgets, _ := strings.Cut(word, ":")
			w := Workload{Name: word, Namespace: namespace}
			for _, b := range budgets {
				w.Budgets = append(w.Budgets, Budget{Name: string(b)})
			}
			workloads = append(workloads, w)
		}
		var groups []string
		for _, g := range chains(workloads) {
			var names []string
			for _, w := range g {
				names = append(names, w.Name)
			}
			groups = append(groups, strings.Join(names, " "))
		}
		if got := strings.Join(groups, " | "); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
