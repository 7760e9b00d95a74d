package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/retry"
)

// Taint as in core/v1.
type Taint struct{ Key, Value, Effect string }

// NodeSettings are what a node should carry and may not give itself (NodeRestriction).
type NodeSettings struct {
	Name   string
	Labels map[string]string
	Taints []Taint
}

// NodeChange is a node that is not as it should be.
type NodeChange struct{ Name, Reason string }

// DiffNodes says which nodes are missing, not Ready, or without their labels and taints. It is one request.
func (c *Client) DiffNodes(ctx context.Context, settings []NodeSettings) ([]NodeChange, error) {
	list, err := c.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := map[string]*corev1.Node{}
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
	}
	var changes []NodeChange
	for _, s := range settings {
		node, ok := nodes[s.Name]
		switch {
		case !ok:
			changes = append(changes, NodeChange{s.Name, "is not registered"})
		case s.patch(node) != nil:
			changes = append(changes, NodeChange{s.Name, "lacks " + s.lacking(node)})
		default:
			if ready, why := Condition(node); !ready {
				changes = append(changes, NodeChange{s.Name, why})
			}
		}
	}
	return changes, nil
}

// EnsureNode waits for a node to register, gives it its labels and taints as soon as it does, and returns when it is
// Ready. report is told each new reason why it is not yet. It ends with ctx, and the error says what was seen last.
func (c *Client) EnsureNode(ctx context.Context, s NodeSettings, report func(condition string)) error {
	last := "it has not registered"
	done := func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		if !ok || e.Type == watch.Deleted {
			last = "it has not registered"
			return false, nil
		}
		if patch := s.patch(node); patch != nil {
			return false, c.patchNode(ctx, s.Name, patch) // the changed node comes as an event of its own
		}
		ready, why := Condition(node)
		if !ready && why != last {
			report(why)
		}
		last = why
		return ready, nil
	}
	_, err := toolswatch.UntilWithSync(ctx, c.watchNode(ctx, s.Name), &corev1.Node{}, nil, done)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the watch only says that it was interrupted
	}
	if err != nil {
		return fmt.Errorf("node %s is not as it should be: %s: %w", s.Name, last, err)
	}
	return nil
}

// patchNode tries again for a while when no API server answered, or one said to come back later: while a cluster starts,
// servers come and go. That somebody was faster is no error.
func (c *Client) patchNode(ctx context.Context, name string, patch []byte) error {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 7}
	transient := func(err error) bool {
		return ctx.Err() == nil && (apierrors.ReasonForError(err) == metav1.StatusReasonUnknown || apierrors.IsServiceUnavailable(err) ||
			apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err))
	}
	err := retry.OnError(backoff, transient, func() error {
		_, err := c.typed.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
		return err
	})
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (c *Client) watchNode(ctx context.Context, name string) cache.ListerWatcher {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return &cache.ListWatch{
		ListWithContextFunc: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return c.typed.CoreV1().Nodes().List(ctx, o)
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return c.typed.CoreV1().Nodes().Watch(ctx, o)
		},
	}
}

// Condition says whether a node is Ready, and if not why, in the kubelet's words.
func Condition(node *corev1.Node) (ready bool, why string) {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return true, "Ready"
		}
		return false, "NotReady: " + strings.TrimSpace(c.Reason+" "+c.Message)
	}
	return false, "NotReady: the kubelet has reported nothing"
}

// patch is what gives a node its settings, nil where it has them. Labels and taints of others are left alone.
func (s NodeSettings) patch(node *corev1.Node) []byte {
	labels := map[string]string{}
	for k, v := range s.Labels {
		if have, ok := node.Labels[k]; !ok || have != v {
			labels[k] = v
		}
	}
	taints := slices.Clone(node.Spec.Taints)
	for _, t := range s.missingTaints(node) {
		taints = append(taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	if len(labels) == 0 && len(taints) == len(node.Spec.Taints) {
		return nil
	}
	patch := map[string]any{"metadata": map[string]any{"labels": labels}}
	if len(taints) > len(node.Spec.Taints) {
		// The list is replaced as a whole; the resource version refuses the patch when somebody was faster.
		patch["metadata"] = map[string]any{"labels": labels, "resourceVersion": node.ResourceVersion}
		patch["spec"] = map[string]any{"taints": taints}
	}
	text, err := json.Marshal(patch)
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return text
}

func (s NodeSettings) missingTaints(node *corev1.Node) []Taint {
	var missing []Taint
	for _, t := range s.Taints {
		if !slices.ContainsFunc(node.Spec.Taints, func(have corev1.Taint) bool {
			return have.Key == t.Key && have.Value == t.Value && string(have.Effect) == t.Effect
		}) {
			missing = append(missing, t)
		}
	}
	return missing
}

// lacking names the labels and taints that a node is without.
func (s NodeSettings) lacking(node *corev1.Node) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		if have, ok := node.Labels[k]; !ok || have != s.Labels[k] {
			parts = append(parts, "label "+k)
		}
	}
	for _, t := range s.missingTaints(node) {
		parts = append(parts, "taint "+t.Key)
	}
	return strings.Join(parts, ", ")
}
