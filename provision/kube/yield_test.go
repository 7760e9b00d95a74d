package kube

import (
	"context"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const yielding = `apiVersion: apps/v1
kind: Deployment
metadata: {name: scaled, namespace: default, annotations: {slipway.dev/yield: spec.replicas}}
spec:
  replicas: 2
  selector: {matchLabels: {app: scaled}}
  template:
    metadata: {labels: {app: scaled}}
    spec: {containers: [{name: web, image: "example/web:1"}]}
`

// What a manifest yields is its own until somebody else has set it; from then on neither Apply nor
// Diff minds.
func testYield(t *testing.T, c *Client) {
	ctx := context.Background()
	deployments := c.Typed().AppsV1().Deployments("default")
	replicas := func(want int32, when string) {
		t.Helper()
		live, err := deployments.Get(ctx, "scaled", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *live.Spec.Replicas != want {
			t.Errorf("%s: %d replicas, want %d", when, *live.Spec.Replicas, want)
		}
		if _, sent := live.Annotations[YieldAnnotation]; sent {
			t.Errorf("%s: the annotation was sent", when)
		}
	}
	apply := func(text string) {
		t.Helper()
		if _, err := c.Apply(ctx, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	differs := func(want bool, when string) {
		t.Helper()
		changes, err := c.Diff(ctx, []byte(yielding))
		if err != nil || (len(changes) > 0) != want {
			t.Errorf("%s: differences are %v, %v", when, changes, err)
		}
	}
	differs(true, "before it is made")
	apply(yielding)
	replicas(2, "made")
	differs(false, "made")
	apply(yielding)
	replicas(2, "applied again, while it is ours")

	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "scaled", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 10}}
	if _, err := deployments.UpdateScale(ctx, "scaled", scale, metav1.UpdateOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	differs(false, "scaled")
	apply(yielding)
	replicas(10, "scaled and applied")

	live, err := deployments.Get(ctx, "scaled", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.Spec.Template.Spec.Containers[0].Image = "example/web:2"
	if _, err := deployments.Update(ctx, live, metav1.UpdateOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	differs(true, "another field was changed")
	apply(yielding)
	replicas(10, "put back")
	differs(false, "put back")
}
