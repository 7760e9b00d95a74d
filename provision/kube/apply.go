package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
)

// Change is an object that differs, or differed.
type Change struct {
	// Object is "Kind namespace/name", or "Kind name".
	Object string
	// Missing says that there was none.
	Missing bool
}

func (c Change) String() string {
	if c.Missing {
		return c.Object + " is missing"
	}
	return c.Object + " differs"
}

// Apply makes the objects of a multi-document YAML stream so, by server-side apply, and says which changed.
// What others own is taken over: the stream is the truth for the fields that it names.
func (c *Client) Apply(ctx context.Context, manifests []byte) ([]Change, error) {
	return c.each(ctx, manifests, func(ctx context.Context, r dynamic.ResourceInterface, o *unstructured.Unstructured) (bool, bool, error) {
		before, missing, err := get(ctx, r, o.GetName())
		if err != nil {
			return false, false, err
		}
		after, err := r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
		if err != nil {
			return false, false, err
		}
		return missing || before.GetResourceVersion() != after.GetResourceVersion(), missing, nil
	})
}

// Diff says which objects of the stream Apply would change, by applying them for a trial (dryRun=All): the server's
// own defaults and admission decide what is equal.
func (c *Client) Diff(ctx context.Context, manifests []byte) ([]Change, error) {
	return c.each(ctx, manifests, func(ctx context.Context, r dynamic.ResourceInterface, o *unstructured.Unstructured) (bool, bool, error) {
		before, missing, err := get(ctx, r, o.GetName())
		if err != nil || missing {
			return missing, missing, err
		}
		options := metav1.ApplyOptions{FieldManager: FieldManager, Force: true, DryRun: []string{metav1.DryRunAll}}
		after, err := r.Apply(ctx, o.GetName(), o, options)
		if err != nil {
			return false, false, err
		}
		return !same(before, after), false, nil
	})
}

// each calls do for every object of a stream, side by side, and collects the changes in the order of the stream.
func (c *Client) each(
	ctx context.Context, manifests []byte,
	do func(context.Context, dynamic.ResourceInterface, *unstructured.Unstructured) (changed, missing bool, err error),
) ([]Change, error) {
	objects, err := parse(manifests)
	if err != nil {
		return nil, err
	}
	results, errs := make([]*Change, len(objects)), make([]error, len(objects))
	var group errgroup.Group
	for i, o := range objects {
		group.Go(func() error {
			r, err := c.resource(o)
			if err == nil {
				var changed, missing bool
				if changed, missing, err = do(ctx, r, o); changed {
					results[i] = &Change{Object: describe(o), Missing: missing}
				}
			}
			if err != nil {
				errs[i] = fmt.Errorf("apply %s: %w", describe(o), err)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by object
	var changes []Change
	for _, r := range slices.DeleteFunc(results, func(r *Change) bool { return r == nil }) {
		changes = append(changes, *r)
	}
	return changes, errors.Join(errs...)
}

func get(ctx context.Context, r dynamic.ResourceInterface, name string) (o *unstructured.Unstructured, missing bool, err error) {
	o, err = r.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, true, nil
	}
	return o, false, err
}

// same compares two versions of an object without what every write touches.
func same(a, b *unstructured.Unstructured) bool {
	strip := func(o *unstructured.Unstructured) map[string]any {
		o = o.DeepCopy()
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		o.SetGeneration(0)
		delete(o.Object, "status")
		return o.Object
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

func parse(manifests []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// clusterScoped are the built-in kinds without a namespace that slipway applies. All built-in kinds are known to
// client-go's scheme; only their scope is not.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "Namespace", "PriorityClass", "StorageClass", "RuntimeClass", "Node"}

// resource finds where an object lives without asking the server: discovery would cost more than the rest of an apply.
func (c *Client) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	if !scheme.Scheme.Recognizes(kind) {
		return nil, fmt.Errorf("%s is not a built-in kind", kind)
	}
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	return c.scoped(resource, o), nil
}

func (c *Client) scoped(resource schema.GroupVersionResource, o *unstructured.Unstructured) dynamic.ResourceInterface {
	if slices.Contains(clusterScoped, o.GetKind()) {
		return c.dynamic.Resource(resource)
	}
	return c.dynamic.Resource(resource).Namespace(o.GetNamespace())
}

func describe(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}
