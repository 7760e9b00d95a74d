package kube

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Deployment is the progress of a Deployment.
type Deployment struct {
	Name string // "namespace/name"
	// Replicas is the desired number, Available how many of them are available.
	Replicas, Available int32
	// Settled means that its controller has seen the latest change, and that no old pod is left.
	Settled bool
	// Waiting has the reason of each pod that is not Ready, if the API has one.
	Waiting []string
}

// Serves reports whether at least one pod is available.
func (d Deployment) Serves() bool { return d.Available > 0 || d.Replicas == 0 }

func (d Deployment) String() string {
	text := fmt.Sprintf("Deployment %s: %d of %d pods are available", d.Name, d.Available, d.Replicas)
	if d.Serves() && !d.Settled {
		text += ", but old pods have not been replaced"
	}
	return strings.Join(append([]string{text}, d.Waiting...), "\n  ")
}

// Deployment gets a Deployment. It lists the pods only if the Deployment does not serve or has not
// settled.
func (c *Client) Deployment(ctx context.Context, namespace, name string) (Deployment, error) {
	live, err := c.typed.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Deployment{}, fmt.Errorf("ask for Deployment %s/%s: %w", namespace, name, err)
	}
	d := deploymentOf(live)
	if d.Serves() && d.Settled {
		return d, nil
	}
	pods, err := c.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(live.Spec.Selector)})
	if err != nil {
		return d, fmt.Errorf("list the pods of Deployment %s: %w", d.Name, err)
	}
	for i := range pods.Items {
		if why := waiting(&pods.Items[i]); why != "" {
			d.Waiting = append(d.Waiting, "pod "+pods.Items[i].Name+": "+why)
		}
	}
	return d, nil
}

func deploymentOf(live *appsv1.Deployment) Deployment {
	d := Deployment{Name: live.Namespace + "/" + live.Name, Replicas: 1, Available: live.Status.AvailableReplicas}
	if live.Spec.Replicas != nil {
		d.Replicas = *live.Spec.Replicas
	}
	d.Settled = live.Status.ObservedGeneration >= live.Generation && live.Status.UpdatedReplicas == live.Status.Replicas
	return d
}

// waiting returns why a pod is not Ready, or "".
func waiting(pod *corev1.Pod) string {
	if podOf(pod).Ready {
		return ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return strings.TrimSpace(c.Reason + ": " + c.Message)
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			return strings.TrimSpace("container " + c.Name + " on " + pod.Spec.NodeName + ": " + w.Reason + " " + w.Message)
		}
	}
	if pod.Status.Reason != "" { // evicted, for example
		return strings.TrimSpace(pod.Status.Reason + ": " + pod.Status.Message)
	}
	return "is " + string(pod.Status.Phase) + " on " + pod.Spec.NodeName + " but not Ready"
}
