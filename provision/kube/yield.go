package kube

import (
	"encoding/json"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// YieldAnnotation names a field in a manifest ("spec.replicas") that the stream sets only until
// someone else has set it, for example by scaling a workload, or an autoscaler. It is never sent.
const YieldAnnotation = "slipway.dev/yield"

// yield returns the object to apply over live (nil if there is none): without the annotation, and
// without the field that it names if slipway does not own it any more. An omitted field keeps its
// value and owner.
func yield(o, live *unstructured.Unstructured) *unstructured.Unstructured {
	annotations := o.GetAnnotations()
	field, ok := annotations[YieldAnnotation]
	if !ok {
		return o
	}
	o = o.DeepCopy()
	delete(annotations, YieldAnnotation)
	if len(annotations) == 0 {
		annotations = nil
	}
	o.SetAnnotations(annotations)
	path := strings.Split(field, ".")
	if live != nil && !owns(live, path) {
		unstructured.RemoveNestedField(o.Object, path...)
	}
	return o
}

// owns reports whether slipway was the last to set a field, according to the object's managed
// fields (FieldsV1, "f:name").
func owns(live *unstructured.Unstructured, path []string) bool {
	return slices.ContainsFunc(live.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		if entry.Manager != FieldManager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			return false
		}
		var fields map[string]any
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			return false
		}
		for _, name := range path {
			next, ok := fields["f:"+name].(map[string]any)
			if !ok {
				return false
			}
			fields = next
		}
		return true
	})
}
