package kube

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

// rewrites is the number of Secrets written in parallel.
const rewrites = 16

// RewriteSecrets makes the API server rewrite every Secret unchanged, and so re-encrypt it with its
// first key. All API servers must use that key first by then. It returns the number of Secrets;
// report gets the progress from time to time.
//
// It uses an empty patch: contents never leave the API server, and a Secret that is already
// encrypted with the first key is not written. So it may be interrupted and called again.
// Concurrent writes and removals are not errors.
func (c *Client) RewriteSecrets(ctx context.Context, report func(what string)) (n int, err error) {
	var secrets []types.NamespacedName
	err = c.names(ctx, "secrets", metav1.ListOptions{}, func(name types.NamespacedName) { secrets = append(secrets, name) })
	if err != nil {
		return 0, err
	}
	var done atomic.Int64
	var group *errgroup.Group
	group, ctx = errgroup.WithContext(ctx)
	group.SetLimit(rewrites)
	for _, s := range secrets {
		group.Go(func() error {
			if err := c.rewriteSecret(ctx, s); err != nil {
				return fmt.Errorf("write Secret %s again: %w", s, err)
			}
			if now := done.Add(1); now%1000 == 0 {
				report(fmt.Sprintf("%d of %d Secrets are written again", now, len(secrets)))
			}
			return nil
		})
	}
	err = group.Wait()
	return int(done.Load()), err
}

func (c *Client) rewriteSecret(ctx context.Context, s types.NamespacedName) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := retryTransient(ctx, func() error {
		_, err := c.meta.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(s.Namespace).
			Patch(ctx, s.Name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{FieldManager: FieldManager})
		return err
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // the API server itself retries after concurrent writes
		return nil
	}
	return err
}

// names calls do for each object of a core resource, page by page. Only metadata is sent.
func (c *Client) names(ctx context.Context, resource string, options metav1.ListOptions, do func(types.NamespacedName)) error {
	page := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.meta.Resource(corev1.SchemeGroupVersion.WithResource(resource)).List(ctx, o)
	})
	err := page.EachListItem(ctx, options, func(o runtime.Object) error {
		m := o.(*metav1.PartialObjectMetadata)
		do(types.NamespacedName{Namespace: m.Namespace, Name: m.Name})
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", resource, err)
	}
	return nil
}

// retryTransient retries for a while if no API server answered, or one said to retry later: API
// servers are unavailable at times while a cluster starts or they restart.
func retryTransient(ctx context.Context, do func() error) error {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 7}
	transient := func(err error) bool {
		return ctx.Err() == nil && (apierrors.ReasonForError(err) == metav1.StatusReasonUnknown || apierrors.IsServiceUnavailable(err) ||
			apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err))
	}
	return retry.OnError(backoff, transient, do)
}
