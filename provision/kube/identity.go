package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ClusterUID returns the UID by which slipway knows the cluster, as its manifests have put it into
// ConfigMap kube-system/slipway-cluster; empty where there is none.
func (c *Client) ClusterUID(ctx context.Context) (string, error) {
	m, err := c.typed.CoreV1().ConfigMaps("kube-system").Get(ctx, "slipway-cluster", metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ask which cluster this is: %w", err)
	}
	return m.Data["uid"], nil
}
