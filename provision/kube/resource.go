package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
)

// clusterScoped lists the built-in kinds without a namespace. client-go's scheme does not have this
// information; a test compares the list with a real server.
var clusterScoped = []string{
	"APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding",
	"ClusterTrustBundle", "CustomResourceDefinition", "DeviceClass", "FlowSchema", "IPAddress", "IngressClass",
	"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "Namespace", "Node",
	"PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "ResourceSlice", "RuntimeClass", "ServiceCIDR",
	"StorageClass", "StorageVersionMigration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
	"ValidatingWebhookConfiguration", "VolumeAttachment", "VolumeAttributesClass",
}

// stage is the stage of Apply in which an object is applied.
func stage(o *unstructured.Unstructured) int {
	switch o.GetKind() {
	case "Namespace", "CustomResourceDefinition":
		return 0
	case "Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob", "Pod", "APIService",
		"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return 2
	}
	if !scheme.Scheme.Recognizes(o.GroupVersionKind()) {
		return 2
	}
	return 1
}

// resource returns the resource of an object. For built-in kinds it does not query the server:
// discovery would take longer than the rest of an apply.
func (c *Client) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	if o.GetName() == "" || kind.Kind == "" || kind.Version == "" {
		return nil, errors.New("it needs apiVersion, kind and metadata.name")
	}
	resource, namespaced := builtIn(kind)
	if resource.Empty() {
		var err error
		if resource, namespaced, err = c.discover(kind); err != nil {
			return nil, err
		}
	}
	if !namespaced {
		return c.dynamic.Resource(resource), nil
	}
	return c.dynamic.Resource(resource).Namespace(cmp.Or(o.GetNamespace(), metav1.NamespaceDefault)), nil
}

// builtIn returns an empty resource for kinds that client-go does not know, and for extensions of
// the API machinery.
func builtIn(kind schema.GroupVersionKind) (resource schema.GroupVersionResource, namespaced bool) {
	extension := kind.Group == "apiextensions.k8s.io" || kind.Group == "apiregistration.k8s.io" // not in the scheme
	if !extension && !scheme.Scheme.Recognizes(kind) {
		return resource, false
	}
	resource, _ = meta.UnsafeGuessKindToResource(kind)
	return resource, !slices.Contains(clusterScoped, kind.Kind)
}

// unknownKindError means that the server does not serve the kind (yet).
type unknownKindError struct{ kind schema.GroupVersionKind }

func (e *unknownKindError) Error() string {
	return fmt.Sprintf("the API server knows no kind %s in %s", e.kind.Kind, e.kind.GroupVersion())
}

func isUnknownKind(err error) bool {
	var unknown *unknownKindError
	return errors.As(err, &unknown)
}

func (c *Client) discover(kind schema.GroupVersionKind) (resource schema.GroupVersionResource, namespaced bool, err error) {
	list, err := c.typed.Discovery().ServerResourcesForGroupVersion(kind.GroupVersion().String())
	if err != nil && !apierrors.IsNotFound(err) {
		return resource, false, fmt.Errorf("look up %s: %w", kind.GroupVersion(), err)
	}
	if err == nil {
		for _, r := range list.APIResources {
			if r.Kind == kind.Kind {
				return kind.GroupVersion().WithResource(r.Name), r.Namespaced, nil
			}
		}
	}
	return resource, false, &unknownKindError{kind}
}

// awaitKinds waits until the server serves the kinds that objects define.
func (c *Client) awaitKinds(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		for _, kind := range defines(o) {
			if err := c.awaitKind(ctx, kind); err != nil {
				return fmt.Errorf("%s: %w", describe(o), err)
			}
		}
	}
	return nil
}

// defines lists the served kinds of a CustomResourceDefinition, one for each version.
func defines(definition *unstructured.Unstructured) []schema.GroupVersionKind {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	name, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	var kinds []schema.GroupVersionKind
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if served, _, _ := unstructured.NestedBool(version, "served"); !served {
			continue
		}
		v, _, _ := unstructured.NestedString(version, "name")
		kinds = append(kinds, schema.GroupVersionKind{Group: group, Version: v, Kind: name})
	}
	return kinds
}

// definitionTimeout is how long to wait until the server serves a kind. It takes milliseconds,
// unless names conflict.
const (
	definitionTimeout  = 30 * time.Second
	definitionInterval = 50 * time.Millisecond
)

func (c *Client) awaitKind(ctx context.Context, kind schema.GroupVersionKind) error {
	ctx, cancel := context.WithTimeout(ctx, definitionTimeout)
	defer cancel()
	tick := time.NewTicker(definitionInterval)
	defer tick.Stop()
	for {
		_, _, err := c.discover(kind)
		if !isUnknownKind(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
