package kube

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rootCA is the ConfigMap in every namespace that has the cluster's CA.
const rootCA = "kube-root-ca.crt"

// readsTrust says whether containers of a pod are given the cluster's CA or a service account's token. tokens tells which
// Secrets of its namespace are tokens of the old kind, which do not expire.
func readsTrust(pod *corev1.PodSpec, tokens func(secret string) bool) bool {
	return slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		switch {
		case v.Secret != nil:
			return tokens(v.Secret.SecretName)
		case v.ConfigMap != nil:
			return v.ConfigMap.Name == rootCA
		case v.Projected == nil:
			return false
		}
		return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil || s.ConfigMap != nil && s.ConfigMap.Name == rootCA || s.Secret != nil && tokens(s.Secret.Name)
		})
	}) || slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool {
			return e.ConfigMapRef != nil && e.ConfigMapRef.Name == rootCA || e.SecretRef != nil && tokens(e.SecretRef.Name)
		}) || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			from := e.ValueFrom
			return from != nil && (from.ConfigMapKeyRef != nil && from.ConfigMapKeyRef.Name == rootCA ||
				from.SecretKeyRef != nil && tokens(from.SecretKeyRef.Name))
		})
	})
}

// counts says whether a pod runs and is replaced through the API: not those that have ended, nor a kubelet's own.
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

// startOf is when the container that has run for longest started, or before: it has read its files no later. That is a
// time of the node's clock, which may be wrong; so it is counted from when the kubelet took the pod on (status.startTime,
// of the same clock), and that from when the API server made it. A pod that had to wait for its node seems as much older.
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
	after := oldest.Sub(taken.Time) - time.Second // both lack what is less than one
	return made.Add(max(0, after))                // less is a clock that was set back
}
