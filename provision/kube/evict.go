package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// evictStale evicts pods that started before since, one after the other, and waits for their
// replacements, until none is left. known has the pods that existed at the beginning.
func (c *Client) evictStale(ctx context.Context, w Workload, since time.Time, known []Pod, report func(string)) error {
	old := map[string]bool{}
	for _, p := range known {
		old[p.UID] = true
	}
	for {
		pod, err := c.awaitEvictable(ctx, w.key(), since, report)
		if err != nil || pod == nil {
			return err
		}
		if !old[pod.UID] {
			return fmt.Errorf("pod %s is new, and by the API server's clock it was made %s, before %s: see that the clocks of the control planes are right",
				pod.Name, pod.Started.UTC().Format(time.RFC3339), since.UTC().Format(time.RFC3339))
		}
		if err := c.evict(ctx, w, *pod, report); err != nil {
			return err
		}
	}
}

// recheck is how long pods are watched before the controller's replicas are read again.
const recheck = 30 * time.Second

// awaitEvictable waits until a pod may be evicted; nil means that none is left.
func (c *Client) awaitEvictable(ctx context.Context, at key, since time.Time, report func(string)) (pod *Pod, err error) {
	for {
		k, err := c.controller(ctx, at)
		if err != nil {
			return nil, err
		}
		var wait string
		round, cancel := context.WithTimeout(ctx, recheck)
		err = until(round, watchOf(c.typed.CoreV1().RESTClient(), "pods", at.namespace, k.narrow), &corev1.Pod{}, func(objects []any) (bool, error) {
			all := make([]*corev1.Pod, 0, len(objects))
			for _, o := range objects {
				all = append(all, o.(*corev1.Pod))
			}
			own := k.own(all)
			pod, wait = next(own, since, k.replicas)
			if ending := stalePods(own, since); pod == nil && wait == "" && len(ending) > 0 {
				wait = ending[0].Name + " has been told to end, and is not gone"
			}
			report(wait)
			return pod != nil || wait == "", nil
		})
		over := round.Err() != nil
		cancel()
		if err == nil || !over || ctx.Err() != nil {
			return pod, waited(ctx, wait, err)
		}
	}
}

// The delay before an eviction that a budget refused is retried: at least the first, because a
// budget's status lags behind, and at most the second, unless the budget allows it earlier.
const (
	evictPause = 250 * time.Millisecond
	evictAgain = 10 * time.Second
)

// evict requests the eviction of a pod until it is granted. A pod that is gone, or was replaced, is
// not an error.
func (c *Client) evict(ctx context.Context, w Workload, pod Pod, report func(string)) error {
	uid := types.UID(pod.UID)
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: w.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	for pause := evictPause; ; pause = min(2*pause, evictAgain) {
		// The client must not retry: it would sleep without watching the budget.
		err := c.typed.CoreV1().RESTClient().Post().Namespace(w.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
			MaxRetries(0).Body(eviction).Do(ctx).Error()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		last := fmt.Sprintf("evict %s: %v", pod.Name, err)
		if !apierrors.IsTooManyRequests(err) {
			return waited(ctx, last, fmt.Errorf("evict pod %s: %w", pod.Name, err))
		}
		report(refusal(pod, err))
		if err := c.awaitAllowance(ctx, w, pause); err != nil {
			return waited(ctx, last, err)
		}
	}
}

// refusal returns the API server's message about why a budget refuses.
func refusal(pod Pod, err error) string {
	why := err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == policyv1.DisruptionBudgetCause {
				why = cause.Message
			}
		}
	}
	return pod.Name + " may not be evicted yet: " + why
}

// awaitAllowance waits for pause, and then, for a limited time, until all budgets of the workload
// allow a disruption.
func (c *Client) awaitAllowance(ctx context.Context, w Workload, pause time.Duration) error {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ours := map[string]bool{}
	for _, b := range w.Budgets {
		ours[b.Name] = true
	}
	round, cancel := context.WithTimeout(ctx, evictAgain)
	defer cancel()
	everything := func(*metav1.ListOptions) {}
	budgets := watchOf(c.typed.PolicyV1().RESTClient(), "poddisruptionbudgets", w.Namespace, everything)
	err := until(round, budgets, &policyv1.PodDisruptionBudget{}, func(objects []any) (bool, error) {
		for _, o := range objects {
			b := coveringOf(o.(*policyv1.PodDisruptionBudget))
			if ours[b.Name] && b.Allowed == 0 {
				return false, nil
			}
		}
		return true, nil
	})
	if round.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}
