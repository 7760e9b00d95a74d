package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	sigsyaml "sigs.k8s.io/yaml"
)

// controllers are field managers that do not count as drift: they annotate objects that they
// manage.
const controllers = "kube-controller-manager"

// Change is an object that differs, or differed.
type Change struct {
	// Object is "Kind namespace/name", or "Kind name".
	Object string
	// Missing means that it does not exist.
	Missing bool
	// By is who changed it last, except slipway, and At when, according to the object's managed
	// fields.
	By string
	At time.Time
	// Live and Wanted are the current and the desired object, as YAML without the fields that every
	// write changes and without the values of Secrets. Only Diff sets them.
	Live, Wanted string
	// Err is why the object could not be compared.
	Err error
}

func (c Change) String() string {
	if c.Missing {
		return c.Object + " is missing"
	}
	return c.Object + " differs"
}

// Apply applies the objects of a multi-document YAML stream with server-side apply, and returns
// those that changed. It takes ownership of all fields in the stream, even if others own them.
//
// Objects are applied in parallel, in three stages: namespaces and definitions of kinds, then the
// rest, then workloads, webhooks and objects of defined kinds, so that no controller has to retry
// because a service account was late. After a stage with a failure, Apply stops.
func (c *Client) Apply(ctx context.Context, manifests []byte) ([]Change, error) {
	objects, err := parse(manifests)
	if err != nil {
		return nil, err
	}
	stages := [3][]*unstructured.Unstructured{}
	for _, o := range objects {
		stages[stage(o)] = append(stages[stage(o)], o)
	}
	var changes []Change
	for _, objects := range stages {
		changed, err := c.each(objects, "apply", func(o *unstructured.Unstructured) (*Change, error) { return c.apply(ctx, o) })
		changes = append(changes, changed...)
		if err != nil {
			return changes, err
		}
		if err := c.awaitKinds(ctx, objects); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

func (c *Client) apply(ctx context.Context, o *unstructured.Unstructured) (*Change, error) {
	r, err := c.resource(o)
	if err != nil {
		return nil, err
	}
	before, err := get(ctx, r, o.GetName())
	if err != nil {
		return nil, err
	}
	after, err := r.Apply(ctx, o.GetName(), yield(o, before), metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	switch {
	case err != nil:
		return nil, err
	case before == nil:
		return &Change{Object: describe(o), Missing: true}, nil
	case !same(before, after): // the resource version also changes with other writes and with ownership
		return &Change{Object: describe(o)}, nil
	}
	return nil, nil
}

// Diff returns the objects of the stream that Apply would change. It applies them with dryRun=All,
// so the server's defaults and admission decide what is equal. All objects are queried in parallel.
func (c *Client) Diff(ctx context.Context, manifests []byte) ([]Change, error) {
	objects, err := parse(manifests)
	if err != nil {
		return nil, err
	}
	return c.each(objects, "compare", func(o *unstructured.Unstructured) (*Change, error) { return c.diff(ctx, o) })
}

func (c *Client) diff(ctx context.Context, o *unstructured.Unstructured) (*Change, error) {
	r, err := c.resource(o)
	if isUnknownKind(err) {
		return &Change{Object: describe(o), Missing: true}, nil // its definition may be in the stream; otherwise Apply fails
	}
	if err != nil {
		return nil, err
	}
	var live, trial *unstructured.Unstructured
	var trialErr error
	var questions sync.WaitGroup
	try := func() {
		options := metav1.ApplyOptions{FieldManager: FieldManager, Force: true, DryRun: []string{metav1.DryRunAll}}
		trial, trialErr = r.Apply(ctx, o.GetName(), yield(o, live), options)
	}
	_, yields := o.GetAnnotations()[YieldAnnotation]
	if !yields { // otherwise the dry run depends on the live object
		questions.Go(try)
	}
	found, err := get(ctx, r, o.GetName())
	questions.Wait()
	live = found
	if yields && err == nil {
		try()
	}
	switch {
	case err != nil:
		return nil, err
	case live == nil: // the dry run may have failed because the namespace is missing too
		return &Change{Object: describe(o), Missing: true, Wanted: show(yield(o, nil))}, nil
	case trialErr != nil:
		return nil, trialErr
	case !same(live, trial):
		by, at := lastWriter(live)
		return &Change{Object: describe(o), Live: show(live), Wanted: show(trial), By: by, At: at}, nil
	}
	return nil, nil
}

// lastWriter returns who changed an object last and when, without slipway and controllers.
func lastWriter(o *unstructured.Unstructured) (by string, at time.Time) {
	for _, f := range o.GetManagedFields() {
		ours := f.Manager == FieldManager && f.Operation == metav1.ManagedFieldsOperationApply
		if !ours && f.Manager != controllers && f.Subresource == "" && f.Time != nil && f.Time.After(at) {
			by, at = f.Manager, f.Time.Time
		}
	}
	return by, at
}

// show returns an object as YAML, without secrets.
func show(o *unstructured.Unstructured) string {
	content := strip(o)
	if o.GetKind() == "Secret" {
		delete(content, "data")
		delete(content, "stringData")
	}
	text, err := sigsyaml.Marshal(content)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(text)
}

// each calls do for every object in parallel, and collects the changes in the order of the objects.
func (c *Client) each(objects []*unstructured.Unstructured, verb string, do func(*unstructured.Unstructured) (*Change, error)) ([]Change, error) {
	results, errs := make([]*Change, len(objects)), make([]error, len(objects))
	var all sync.WaitGroup
	for i, o := range objects {
		all.Go(func() {
			change, err := do(o)
			if err != nil {
				err = fmt.Errorf("%s %s: %w", verb, describe(o), err)
			}
			results[i], errs[i] = change, err
		})
	}
	all.Wait()
	var changes []Change
	for _, r := range results {
		if r != nil {
			changes = append(changes, *r)
		}
	}
	return changes, errors.Join(errs...)
}

// get returns nil for an object that does not exist.
func get(ctx context.Context, r dynamic.ResourceInterface, name string) (*unstructured.Unstructured, error) {
	o, err := r.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, err
}

// same compares two versions of an object without the fields that every write changes.
func same(a, b *unstructured.Unstructured) bool {
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

// strip copies an object without the fields that every write changes.
func strip(o *unstructured.Unstructured) map[string]any {
	o = o.DeepCopy()
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	o.SetGeneration(0)
	delete(o.Object, "status")
	return o.Object
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

func describe(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}
