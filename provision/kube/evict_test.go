package kube

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// play replaces pods that are gone, and keeps the book of a budget of one, until the test ends. It
// returns a function that gives what was seen: the least number of pods that were there.
func (s *stageOf) play(r *appsv1.ReplicaSet, delay time.Duration) func() int {
	var mu sync.Mutex
	least := int(*r.Spec.Replicas)
	stop := make(chan struct{})
	var playing sync.WaitGroup
	playing.Go(func() {
		for n := 0; ; {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			there := len(s.names())
			mu.Lock()
			least = min(least, there)
			mu.Unlock()
			if there == int(*r.Spec.Replicas) {
				s.allow(1)
				continue
			}
			time.Sleep(delay)
			s.pod("web-"+string(rune('a'+n)), reads, r, "ReplicaSet")
			n++
		}
	})
	s.Cleanup(func() { close(stop); playing.Wait() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return least
	}
}

// allow sets how many disruptions the budget allows, if there is one.
func (s *stageOf) allow(n int32) {
	b, err := s.c.typed.PolicyV1().PodDisruptionBudgets(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && b.Status.DisruptionsAllowed == n && b.Status.ObservedGeneration == b.Generation {
		return
	}
	s.must(err)
	b.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: b.Generation, DisruptionsAllowed: n, ExpectedPods: 3, CurrentHealthy: 2 + n, DesiredHealthy: 2,
	}
	_, err = s.c.typed.PolicyV1().PodDisruptionBudgets(s.namespace).UpdateStatus(s.ctx, b, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) { // an eviction was faster
		s.must(err)
	}
}

func (s *stageOf) budget() {
	b := decode[policyv1.PodDisruptionBudget](s.T, "{metadata: {name: web}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}")
	_, err := s.c.typed.PolicyV1().PodDisruptionBudgets(s.namespace).Create(s.ctx, b, metav1.CreateOptions{})
	s.must(err)
	s.allow(0)
}

func testEvict(t *testing.T, c *Client) {
	s := newStage(t, c)
	r := s.replicaSet(3)
	s.budget()
	since := s.pause()
	reports, ended := s.rollout(s.workload(), since)
	if got := <-reports; !strings.HasPrefix(got, "evict one by one") {
		t.Errorf("reported %q", got)
	}
	if got := <-reports; got != "web-1 may not be evicted yet: The disruption budget web needs 2 healthy pods and has 2 currently" {
		t.Errorf("reported %q", got)
	}
	if got := s.names(); len(got) != 3 || got[0] != "web-1" {
		t.Errorf("pods are %v, while the budget allows none to go", got)
	}
	least := s.play(r, 50*time.Millisecond)
	s.must(<-ended)
	if got := strings.Join(s.names(), " "); got != "web-a web-b web-c" {
		t.Errorf("pods are %s", got)
	}
	if least() != 2 {
		t.Errorf("once there were %d pods", least())
	}
	s.must(c.Rollout(s.ctx, s.workload(), since, func(what string) { t.Errorf("when all is done, it says %q", what) }))
}

// Without a budget it is slipway's own care that there is never more than one pod missing, also
// when it is called again.
func testEvictNone(t *testing.T, c *Client) {
	s := newStage(t, c)
	r := s.replicaSet(3)
	since := s.pause()
	for range 2 {
		ctx, cancel := context.WithTimeout(s.ctx, 3*time.Second)
		defer cancel()
		if err := c.Rollout(ctx, s.workload(), since, func(string) {}); err == nil || !strings.Contains(err.Error(), "2 of 3 pods are there") {
			t.Errorf("error %v", err)
		}
		if got := strings.Join(s.names(), " "); got != "web-2 web-3" {
			t.Errorf("pods are %s", got)
		}
	}
	least := s.play(r, 50*time.Millisecond)
	s.must(c.Rollout(s.ctx, s.workload(), since, func(string) {}))
	if got := strings.Join(s.names(), " "); got != "web-a web-b web-c" || least() != 2 {
		t.Errorf("pods are %s; once there were %d", got, least())
	}
	// A time that is yet to come, by the clock of the cluster: a new pod counts as old, and that
	// must have an end.
	err := c.Rollout(s.ctx, s.workload(), time.Now().Add(time.Hour), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "see that the clocks of the control planes are right") {
		t.Errorf("error %v", err)
	}
}
