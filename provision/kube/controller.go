package kube

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
)

// key identifies an object.
type key struct{ kind, namespace, name string }

// controller has the relevant data of an object that makes pods.
type controller struct {
	key
	uid string
	// owner is the controller above it; zero if there is none.
	owner key
	// endless means that it replaces pods that are removed.
	endless  bool
	selector labels.Selector
	replicas int32

	// unavailable is how many pods its own update may take down at the same time. Pods that are
	// already down count, unless it is careless.
	unavailable int32
	careless    bool
	// uneven is why its own update cannot be used, or "".
	uneven      string
	restartedAt time.Time

	// observed means that its controller has seen the latest spec; the other fields are its
	// progress.
	observed                bool
	updated, old, available int32
	// failed is its controller's message about an update that does not progress.
	failed string
}

// rolled reports whether its last update is complete.
func (k *controller) rolled() bool {
	return k.observed && k.old == 0 && k.updated >= k.replicas && k.available >= k.replicas
}

func (k *controller) progress() string {
	if !k.observed {
		return "its controller has not seen the restart yet"
	}
	return fmt.Sprintf("%d of %d pods are new, %d available", min(k.updated, k.replicas), k.replicas, k.available)
}

// kindOfController says how to get and read objects of a kind.
type kindOfController struct {
	name, resource string
	api            func(*Client) rest.Interface
	object         func() metav1.Object
	list           func() runtime.Object
	read           func(object any, k *controller)
}

func appsAPI(c *Client) rest.Interface { return c.typed.AppsV1().RESTClient() }

var controllerTable = []kindOfController{
	{
		"Deployment", "deployments", appsAPI,
		func() metav1.Object { return &appsv1.Deployment{} },
		func() runtime.Object { return &appsv1.DeploymentList{} }, readDeployment,
	},
	{
		"StatefulSet", "statefulsets", appsAPI,
		func() metav1.Object { return &appsv1.StatefulSet{} },
		func() runtime.Object { return &appsv1.StatefulSetList{} }, readStatefulSet,
	},
	{
		"DaemonSet", "daemonsets", appsAPI,
		func() metav1.Object { return &appsv1.DaemonSet{} },
		func() runtime.Object { return &appsv1.DaemonSetList{} }, readDaemonSet,
	},
	{
		"ReplicaSet", "replicasets", appsAPI,
		func() metav1.Object { return &appsv1.ReplicaSet{} },
		func() runtime.Object { return &appsv1.ReplicaSetList{} }, readReplicaSet,
	},
	{
		"ReplicationController", "replicationcontrollers", func(c *Client) rest.Interface { return c.typed.CoreV1().RESTClient() },
		func() metav1.Object { return &corev1.ReplicationController{} },
		func() runtime.Object { return &corev1.ReplicationControllerList{} }, readReplicationController,
	},
	{
		"Job", "jobs", func(c *Client) rest.Interface { return c.typed.BatchV1().RESTClient() },
		func() metav1.Object { return &batchv1.Job{} },
		func() runtime.Object { return &batchv1.JobList{} }, func(any, *controller) {},
	},
}

func kindNamed(name string) (kindOfController, bool) {
	for _, k := range controllerTable {
		if k.name == name {
			return k, true
		}
	}
	return kindOfController{}, false
}

// controllerOf reads an object of the kind.
func (kind kindOfController) controllerOf(object metav1.Object) *controller {
	k := &controller{
		key: key{kind.name, object.GetNamespace(), object.GetName()}, uid: string(object.GetUID()), selector: labels.Nothing(),
		owner: ownerOf(object),
	}
	kind.read(object, k)
	if k.owner != (key{}) && k.uneven == "" {
		k.uneven = fmt.Sprintf("%s %s owns it, and may undo a change of it", k.owner.kind, k.owner.name)
	}
	return k
}

// ownerOf returns the controller of an object; zero if it has none.
func ownerOf(object metav1.Object) key {
	owner := metav1.GetControllerOf(object)
	if owner == nil {
		return key{}
	}
	return key{owner.Kind, object.GetNamespace(), owner.Name}
}

func readDeployment(object any, k *controller) {
	d := object.(*appsv1.Deployment)
	k.common(d.Spec.Selector, d.Spec.Replicas, &d.Spec.Template)
	switch rolling := d.Spec.Strategy.RollingUpdate; {
	case d.Spec.Paused:
		k.uneven = "it is paused"
	case d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || rolling == nil:
		k.uneven = "strategy " + string(d.Spec.Strategy.Type)
	default: // rounded like in its controller (ResolveFenceposts)
		k.unavailable = scaled(intstr.ValueOrDefault(rolling.MaxUnavailable, intstr.FromInt32(0)), k.replicas, false)
		if k.unavailable == 0 && scaled(intstr.ValueOrDefault(rolling.MaxSurge, intstr.FromInt32(0)), k.replicas, true) == 0 {
			k.unavailable = 1
		}
	}
	k.observed = d.Status.ObservedGeneration >= d.Generation
	k.updated, k.available = d.Status.UpdatedReplicas, d.Status.AvailableReplicas
	k.old = max(0, d.Status.Replicas-d.Status.UpdatedReplicas)
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			k.failed = c.Message
		}
	}
}

func readStatefulSet(object any, k *controller) {
	s := object.(*appsv1.StatefulSet)
	k.common(s.Spec.Selector, s.Spec.Replicas, &s.Spec.Template)
	k.unavailable = 1
	k.careless = s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	if s.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		k.uneven = "strategy " + string(s.Spec.UpdateStrategy.Type)
		if s.Status.UpdateRevision != s.Status.CurrentRevision {
			k.uneven += "; it gets the template that waits for that"
		}
	} else if rolling := s.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		k.unavailable = max(1, scaled(intstr.ValueOrDefault(rolling.MaxUnavailable, intstr.FromInt32(1)), k.replicas, false))
		if rolling.Partition != nil && *rolling.Partition > 0 {
			k.uneven = "its update is partitioned"
		}
	}
	k.observed = s.Status.ObservedGeneration >= s.Generation
	k.updated, k.available = s.Status.UpdatedReplicas, s.Status.AvailableReplicas
	k.old = max(0, s.Status.Replicas-s.Status.UpdatedReplicas)
}

func readDaemonSet(object any, k *controller) {
	d := object.(*appsv1.DaemonSet)
	k.common(d.Spec.Selector, &d.Status.DesiredNumberScheduled, &d.Spec.Template)
	if rolling := d.Spec.UpdateStrategy.RollingUpdate; d.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || rolling == nil {
		k.uneven = "strategy " + string(d.Spec.UpdateStrategy.Type)
		if d.Status.UpdatedNumberScheduled < d.Status.DesiredNumberScheduled {
			k.uneven += "; it gets the template that waits for that"
		}
	} else {
		k.unavailable = scaled(intstr.ValueOrDefault(rolling.MaxUnavailable, intstr.FromInt32(1)), k.replicas, true)
	}
	k.observed = d.Status.ObservedGeneration >= d.Generation
	k.updated, k.available = d.Status.UpdatedNumberScheduled, d.Status.NumberAvailable
	k.old = max(0, d.Status.CurrentNumberScheduled-d.Status.UpdatedNumberScheduled)
}

func readReplicaSet(object any, k *controller) {
	r := object.(*appsv1.ReplicaSet)
	k.common(r.Spec.Selector, r.Spec.Replicas, &r.Spec.Template)
	k.uneven = "a ReplicaSet has no update strategy"
}

func readReplicationController(object any, k *controller) {
	r := object.(*corev1.ReplicationController)
	k.common(&metav1.LabelSelector{MatchLabels: r.Spec.Selector}, r.Spec.Replicas, r.Spec.Template)
	k.uneven = "a ReplicationController has no update strategy"
}

// restartedAt is the annotation that `kubectl rollout restart` sets in the pods' template.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

func (k *controller) common(selector *metav1.LabelSelector, replicas *int32, template *corev1.PodTemplateSpec) {
	k.endless, k.replicas = true, 1 // the API's default
	if replicas != nil {
		k.replicas = *replicas
	}
	if s, err := metav1.LabelSelectorAsSelector(selector); err == nil { // the API only admits valid selectors
		k.selector = s
	}
	if template != nil {
		k.restartedAt, _ = time.Parse(time.RFC3339, template.Annotations[restartedAt]) // ignore an invalid one
	}
}

// controller gets a controller; the error is one of the API's.
func (c *Client) controller(ctx context.Context, at key) (*controller, error) {
	kind, ok := kindNamed(at.kind)
	if !ok {
		return nil, fmt.Errorf("%s %s/%s cannot be rolled", at.kind, at.namespace, at.name)
	}
	object := kind.object()
	err := kind.api(c).Get().Namespace(at.namespace).Resource(kind.resource).Name(at.name).Do(ctx).Into(object.(runtime.Object))
	if err != nil {
		return nil, err
	}
	return kind.controllerOf(object), nil
}
