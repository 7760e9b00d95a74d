package kube

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
)

// TestGatheredWorkloads has one pod under every kind of controller.
func TestGatheredWorkloads(t *testing.T) {
	g := gathered{controllers: map[key]*controller{}}
	add := func(kind, name string, owner key, k controller) {
		k.key, k.owner = key{kind, "x", name}, owner
		g.controllers[k.key] = &k
	}
	add("Deployment", "web", key{}, controller{endless: true})
	add("ReplicaSet", "web-1", key{"Deployment", "x", "web"}, controller{endless: true})
	add("ReplicaSet", "alone", key{}, controller{endless: true, uneven: "no strategy"})
	add("ReplicaSet", "canary", key{"Canary", "x", "c"}, controller{endless: true, uneven: "no strategy"})
	add("Job", "once", key{}, controller{})
	add("Job", "nightly-1", key{"CronJob", "x", "nightly"}, controller{})
	pod := func(name string, owner key, reads bool, set labels.Set) {
		g.pods = append(g.pods, gatheredPod{Pod: Pod{Name: name}, at: key{"Pod", "x", name}, owner: owner, reads: reads, labels: set})
	}
	pod("web-2", key{"ReplicaSet", "x", "web-1"}, true, labels.Set{"app": "web"})
	pod("web-1", key{"ReplicaSet", "x", "web-1"}, true, labels.Set{"app": "web"})
	pod("alone", key{"ReplicaSet", "x", "alone"}, true, nil)
	pod("canary", key{"ReplicaSet", "x", "canary"}, true, nil)
	pod("deaf", key{"Deaf", "x", "deaf"}, false, labels.Set{"app": "web"}) // does not read it, and shares the budget
	pod("once", key{"Job", "x", "once"}, true, nil)
	pod("nightly", key{"Job", "x", "nightly-1"}, true, nil)
	pod("bare", key{}, true, nil)
	pod("strange", key{"PodSet", "x", "strange"}, true, nil)
	pod("orphan", key{"ReplicaSet", "x", "gone"}, true, nil)
	web, _ := labels.Parse("app=web")
	elsewhere := covering{Budget{Name: "elsewhere"}, "y", labels.Everything()}
	g.budgets = []covering{{Budget{Name: "web"}, "x", web}, elsewhere}

	var got []string
	for _, w := range g.workloads() {
		line := w.String() + ":"
		for _, p := range w.Pods {
			line += " " + p.Name
		}
		for _, b := range w.Budgets {
			line += fmt.Sprintf(" [%s, shared %v]", b.Name, b.Shared)
		}
		got = append(got, line+": "+w.Describe())
	}
	want := []string{
		"CronJob x/nightly: nightly: left to you: its pods run to their end",
		"Deployment x/web: web-1 web-2 [web, shared true]: rollout restart",
		"Job x/once: once: left to you: its pods run to their end",
		"Pod x/bare: bare: left to you: nothing would replace it",
		"PodSet x/strange: strange: left to you: it is not known whether a PodSet replaces pods",
		"ReplicaSet x/alone: alone: evict one by one (no strategy)",
		"ReplicaSet x/canary: canary: evict one by one (no strategy)",
		"ReplicaSet x/gone: orphan: left to you: its ReplicaSet is gone",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
