package kube

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// testRewriteSecrets only sees that nothing changes and how it ends: what it is for needs etcd, and
// is tested in provision.
func testRewriteSecrets(t *testing.T, c *Client) {
	s := newStage(t, c)
	made, err := c.typed.CoreV1().Secrets(s.namespace).Create(s.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"a": "b"},
	}, metav1.CreateOptions{})
	s.must(err)
	n, err := c.RewriteSecrets(s.ctx, func(string) {})
	if n == 0 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	after, err := c.typed.CoreV1().Secrets(s.namespace).Get(s.ctx, "s", metav1.GetOptions{})
	s.must(err)
	if diff := cmp.Diff(made, after); diff != "" {
		t.Error(diff)
	}
	s.must(c.rewriteSecret(s.ctx, types.NamespacedName{Namespace: s.namespace, Name: "gone"}))
	why := errors.New("time is up")
	ctx, cancel := context.WithCancelCause(s.ctx)
	cancel(why)
	if err := c.rewriteSecret(ctx, types.NamespacedName{Namespace: s.namespace, Name: "s"}); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
