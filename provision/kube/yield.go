package kube

import (
	"encoding/json"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// YieldAnnotation names, in a manifest, a field ("spec.replicas") that is the stream's only until somebody else has set it: who
// scales a workload, or an autoscaler, keeps what he has chosen. It is never sent.
const YieldAnnotation = "slipway.dev/yield"

// yield gives an object as it is to be applied over live, which is nil where there is none: without the annotation, and without
// the field that it names where that is no longer ours. A field that is left out is not taken away: who owns it keeps it.
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

// owns says whether slipway was the last to set a field, by the object's managed fields (FieldsV1, "f:name").
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
