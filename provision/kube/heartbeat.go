package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Heartbeat has a kubelet's latest heartbeats, by its own clock: when it renewed its lease (in
// microseconds) and when it reported its node's status (in whole seconds). The API's data about the
// node may be that old.
type Heartbeat struct{ Lease, Report time.Time }

// Heartbeat gets both in parallel.
func (c *Client) Heartbeat(ctx context.Context, node string) (Heartbeat, error) {
	var b Heartbeat
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
			return Heartbeat{}, fmt.Errorf("ask when the kubelet of %s was heard of: %w", node, err)
		}
	}
	return b, nil
}

// After reports whether the kubelet has sent heartbeats since before: both its lease and its report
// are newer. A report from the same second as the lease's renewal cannot be distinguished, and is
// accepted.
func (b Heartbeat) After(before Heartbeat) bool {
	return b.Lease.After(before.Lease) && (!b.Report.Equal(before.Report) || b.Lease.Sub(b.Report) < 2*time.Second)
}
