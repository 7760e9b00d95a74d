package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// RolloutAll rolls workloads in parallel, but never two that share a budget at the same time. It
// skips Unmanaged ones. After a failure, only those that share a budget with the failed one are not
// started; the error names all of them.
func (c *Client) RolloutAll(ctx context.Context, workloads []Workload, since time.Time, atOnce int, report func(w Workload, what string)) error {
	groups := chains(workloads)
	errs := make([]error, len(groups))
	var all errgroup.Group
	all.SetLimit(max(1, atOnce))
	for i, group := range groups {
		all.Go(func() error {
			errs[i] = c.rollChain(ctx, group, since, report)
			return nil
		})
	}
	_ = all.Wait() // the errors are collected in order
	return errors.Join(errs...)
}

func (c *Client) rollChain(ctx context.Context, group []Workload, since time.Time, report func(Workload, string)) error {
	for i, w := range group {
		if w.Strategy == Unmanaged {
			continue
		}
		err := c.Rollout(ctx, w, since, func(what string) { report(w, what) })
		if err == nil {
			continue
		}
		var waiting []string
		for _, later := range group[i+1:] {
			if later.Strategy != Unmanaged {
				waiting = append(waiting, later.String())
			}
		}
		if len(waiting) > 0 {
			err = fmt.Errorf("%w; not begun, for a budget is shared with it: %s", err, strings.Join(waiting, ", "))
		}
		return err
	}
	return nil
}

// Rollout replaces the pods of a workload that started before since, and returns when none of them
// is left and all others are Ready. If it is called again after an interruption, it continues:
// replaced pods stay, and it only waits for a rollout restart that was ordered after since. report
// gets each new reason for waiting.
//
// It ends with ctx, or when the workload's controller gives up; the error says what was last seen.
// See Stale for since.
func (c *Client) Rollout(ctx context.Context, w Workload, since time.Time, report func(what string)) error {
	if w.Strategy == Unmanaged {
		return fmt.Errorf("%s is not rolled: %s", w, w.Why)
	}
	err := c.rollout(ctx, w, since, once(report))
	if apierrors.IsNotFound(err) {
		return nil // the workload is gone, and so are its pods
	}
	if err != nil {
		return fmt.Errorf("roll %s: %w", w, err)
	}
	return nil
}

// once passes on a message if it differs from the previous one.
func once(report func(string)) func(string) {
	last := ""
	return func(what string) {
		if what != "" && what != last {
			report(what)
		}
		last = what
	}
}

func (c *Client) rollout(ctx context.Context, w Workload, since time.Time, report func(string)) error {
	k, err := c.controller(ctx, w.key())
	if err != nil {
		return err
	}
	pods, err := c.podsOf(ctx, k)
	if err != nil {
		return err
	}
	budgets, err := c.budgets(ctx, w.Namespace)
	if err != nil {
		return err
	}
	if w.refresh(k, pods, budgets); w.Strategy == Unmanaged {
		return errors.New("it is not rolled any more: " + w.Why)
	}
	stale := stalePods(k.own(pods), since)
	if w.Strategy == Restart && (len(stale) > 0 || k.restartedAt.After(since)) {
		if !k.restartedAt.After(since) {
			report(w.Describe())
			if err := c.orderRestart(ctx, k.key, since); err != nil {
				return err
			}
		}
		if err := c.awaitRestart(ctx, k.key, since, report); err != nil {
			return err
		}
	} else if len(stale) > 0 {
		report(w.Describe())
	}
	return c.evictStale(ctx, w, since, stale, report)
}

func (w Workload) key() key { return key{w.Kind, w.Namespace, w.Name} }

// orderRestart does the same as `kubectl rollout restart`. The time that it writes is after since,
// whatever the local clock says.
func (c *Client) orderRestart(ctx context.Context, at key, since time.Time) error {
	now := time.Now()
	if !now.After(since.Add(time.Second)) {
		now = since.Add(2 * time.Second) // whole seconds are written
	}
	kind, _ := kindNamed(at.kind)
	annotations := map[string]any{"annotations": map[string]string{restartedAt: now.Format(time.RFC3339)}}
	patch := marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": annotations}}})
	return kind.api(c).Patch(types.StrategicMergePatchType).Namespace(at.namespace).Resource(kind.resource).Name(at.name).
		VersionedParams(&metav1.PatchOptions{FieldManager: FieldManager}, scheme.ParameterCodec).Body(patch).Do(ctx).Error()
}

// awaitRestart waits until a restart that was ordered after since is complete.
func (c *Client) awaitRestart(ctx context.Context, at key, since time.Time, report func(string)) error {
	kind, _ := kindNamed(at.kind)
	last := "it was not seen"
	err := until(ctx, watchOf(kind.api(c), kind.resource, at.namespace, named(at.name)), kind.object().(runtime.Object), func(objects []any) (bool, error) {
		if len(objects) == 0 {
			return false, apierrors.NewNotFound(corev1.Resource(kind.resource), at.name)
		}
		k := kind.controllerOf(objects[0].(metav1.Object))
		switch {
		case !k.restartedAt.After(since):
			return false, errors.New("the restart was reverted: its template is as before")
		case k.rolled():
			return true, nil
		case k.observed && k.failed != "":
			return false, errors.New("its rollout does not progress: " + k.failed)
		}
		last = k.progress()
		report(last)
		return false, nil
	})
	return waited(ctx, last, err)
}

// waited adds what was last seen to the error if a wait ended with ctx.
func waited(ctx context.Context, last string, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%s: %w", last, cause)
	}
	return err
}

func named(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
}

func (k *controller) narrow(o *metav1.ListOptions) { o.LabelSelector = k.selector.String() }

// watchOf lists and watches a resource. The first list is read from etcd, not from an API server's
// cache.
func watchOf(api rest.Interface, resource, namespace string, narrow func(*metav1.ListOptions)) *cache.ListWatch {
	return cache.NewFilteredListWatchFromClient(api, resource, namespace, func(o *metav1.ListOptions) {
		narrow(o)
		if o.ResourceVersion == "0" {
			o.ResourceVersion = ""
		}
	})
}

// until calls done with all objects, and again after each change, until it returns true.
func until(ctx context.Context, lw *cache.ListWatch, object runtime.Object, done func(objects []any) (bool, error)) error {
	var store cache.Store
	_, err := toolswatch.UntilWithSync(ctx, lw, object,
		func(s cache.Store) (bool, error) { store = s; return done(store.List()) },
		func(watch.Event) (bool, error) { return done(store.List()) })
	return err
}

// podsOf lists the pods of a controller that have not ended.
func (c *Client) podsOf(ctx context.Context, k *controller) (pods []*corev1.Pod, err error) {
	var o metav1.ListOptions
	k.narrow(&o)
	err = list(ctx, c.typed.CoreV1().RESTClient(), "pods", k.namespace, o, func() runtime.Object { return &corev1.PodList{} },
		func(p *corev1.Pod) {
			if k.owns(p) {
				pods = append(pods, p)
			}
		})
	return pods, err
}

// owns reports whether the controller owns a pod that its selector matches.
func (k *controller) owns(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || !counts(pod) {
		return false
	}
	if k.kind == "Deployment" {
		return owner.Kind == "ReplicaSet"
	}
	return string(owner.UID) == k.uid
}

// own returns the pods that the controller owns, by name.
func (k *controller) own(pods []*corev1.Pod) []Pod {
	var w Workload
	for _, p := range pods {
		if k.owns(p) {
			w.Pods = append(w.Pods, podOf(p))
		}
	}
	w.sort()
	return w.Pods
}
