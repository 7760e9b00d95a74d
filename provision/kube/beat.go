package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Beat is when a kubelet was last heard of, by its own clock: when it renewed its lease (in microseconds) and when it
// reported its node's state (in whole seconds). What the API says of a node may be as old as that.
type Beat struct{ Lease, Report time.Time }

// Beat asks for both at once.
func (c *Client) Beat(ctx context.Context, node string) (Beat, error) {
	var b Beat
	var leaseErr, nodeErr error
	var questions sync.WaitGroup
	questions.Go(func() {
		lease, err := c.typed.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
		if leaseErr = err; err == nil && lease.Spec.RenewTime != nil {
			b.Lease = lease.Spec.RenewTime.Time
		}
	})
	questions.Go(func() {
		n, err := c.typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if nodeErr = err; err != nil {
			return
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				b.Report = condition.LastHeartbeatTime.Time
			}
		}
	})
	questions.Wait()
	for _, err := range []error{nodeErr, leaseErr} {
		if err != nil {
			return Beat{}, fmt.Errorf("ask when the kubelet of %s was heard of: %w", node, err)
		}
	}
	return b, nil
}

// After says whether the kubelet has been heard of since before: its lease is a newer one, and so is its report, unless
// that is of the very seconds in which the lease was renewed, where it cannot be told.
func (b Beat) After(before Beat) bool {
	return b.Lease.After(before.Lease) && (!b.Report.Equal(before.Report) || b.Lease.Sub(b.Report) < 2*time.Second)
}
