package kube

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rootCA is the ConfigMap in every namespace that has the cluster's CA.
const rootCA = "kube-root-ca.crt"

// readsTrust reports whether containers of a pod get the cluster's CA or a service account's token.
// tokens reports which Secrets of its namespace are tokens that do not expire.
func readsTrust(pod *corev1.PodSpec, tokens func(secret string) bool) bool {
	t := trustReader{tokens}
	return slices.ContainsFunc(pod.Volumes, t.volume) ||
		slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), t.container)
}

// trustReader has a method for each part of a pod that can name a ConfigMap or a Secret.
type trustReader struct {
	token func(secret string) bool
}

func (t trustReader) volume(v corev1.Volume) bool {
	switch {
	case v.Secret != nil:
		return t.token(v.Secret.SecretName)
	case v.ConfigMap != nil:
		return v.ConfigMap.Name == rootCA
	case v.Projected != nil:
		return slices.ContainsFunc(v.Projected.Sources, t.projection)
	}
	return false
}

func (t trustReader) projection(s corev1.VolumeProjection) bool {
	return s.ServiceAccountToken != nil || s.ConfigMap != nil && s.ConfigMap.Name == rootCA || s.Secret != nil && t.token(s.Secret.Name)
}

func (t trustReader) container(c corev1.Container) bool {
	return slices.ContainsFunc(c.EnvFrom, t.envFrom) || slices.ContainsFunc(c.Env, t.env)
}

func (t trustReader) envFrom(e corev1.EnvFromSource) bool {
	return e.ConfigMapRef != nil && e.ConfigMapRef.Name == rootCA || e.SecretRef != nil && t.token(e.SecretRef.Name)
}

func (t trustReader) env(e corev1.EnvVar) bool {
	from := e.ValueFrom
	return from != nil && (from.ConfigMapKeyRef != nil && from.ConfigMapKeyRef.Name == rootCA ||
		from.SecretKeyRef != nil && t.token(from.SecretKeyRef.Name))
}

// counts reports whether a pod runs and can be replaced through the API: not pods that have ended,
// and not static pods.
func counts(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return !mirror && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func podOf(pod *corev1.Pod) Pod {
	ending := pod.DeletionTimestamp != nil
	return Pod{
		Name: pod.Name, UID: string(pod.UID), Started: startOf(pod), Ending: ending,
		Ready: !ending && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}),
	}
}

// startOf returns a time at or before the start of the longest-running container, so at or before
// the time when it read its files. The container's start is by the node's clock, which may be
// wrong. So it is taken relative to when the kubelet accepted the pod (status.startTime, same
// clock), and added to the pod's creation by the API server's clock. A pod that had to wait for a
// node seems older by that time.
func startOf(pod *corev1.Pod) time.Time {
	made, taken := pod.CreationTimestamp, pod.Status.StartTime
	var oldest metav1.Time
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if running := c.State.Running; running != nil && (oldest.IsZero() || running.StartedAt.Before(&oldest)) {
			oldest = running.StartedAt
		}
	}
	if oldest.IsZero() || taken == nil { // nothing runs
		return made.Time
	}
	after := oldest.Sub(taken.Time) - time.Second // both are whole seconds
	return made.Add(max(0, after))                // negative if the clock was set back
}
