package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// Node is an observed or a desired node.
type Node struct {
	Labels map[string]string `json:"labels,omitempty"`
	// Absent are labels that it must not have; only if desired.
	Absent []string `json:"-"`
	// Taints by key and effect ("key:effect"), with their values.
	Taints map[string]string `json:"taints,omitempty"`
	// Version of the kubelet, "v1.36.3".
	Version string `json:"version"`
	// Ready, if desired, is false if the node may lack a network plugin, and only that.
	Ready bool `json:"ready"`
	// Condition is the kubelet's reason why it is not ready; only if observed.
	Condition string `json:"condition,omitempty"`
	// Short has the node's shortages by condition ("DiskPressure"), with the kubelet's message;
	// only if observed.
	Short map[string]string `json:"short,omitempty"`
	// Unconnected means that it is not ready because the network plugin is missing; only if
	// observed.
	Unconnected bool `json:"unconnected,omitempty"`
	// RecordedLabels and RecordedTaints are those that EnsureNode set last; only if observed.
	RecordedLabels map[string]string `json:"recordedLabels,omitempty"`
	RecordedTaints map[string]string `json:"recordedTaints,omitempty"`
}

// appliedAnnotation records what EnsureNode set on a node, to distinguish what is no longer desired
// from what others set.
const appliedAnnotation = "slipway.dev/applied"

// applied is the annotation's content.
type applied struct {
	Labels map[string]string `json:"labels,omitempty"`
	Taints map[string]string `json:"taints,omitempty"`
}

// Nodes lists all nodes by name, with one request.
func (c *Client) Nodes(ctx context.Context) (map[string]Node, error) {
	list, err := c.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	nodes := make(map[string]Node, len(list.Items))
	for i := range list.Items {
		nodes[list.Items[i].Name] = observed(&list.Items[i])
	}
	return nodes, nil
}

// PodCIDR returns the subnet of a node's pods, or "" if it has none yet.
func (c *Client) PodCIDR(ctx context.Context, node string) (string, error) {
	n, err := c.typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("get the pod subnet of node %s: %w", node, err)
	}
	return n.Spec.PodCIDR, nil
}

// observed returns the compared data of a node.
func observed(node *corev1.Node) Node {
	n := Node{Labels: node.Labels, Taints: map[string]string{}, Version: node.Status.NodeInfo.KubeletVersion, Short: short(node)}
	for _, t := range node.Spec.Taints {
		n.Taints[taintName(t)] = t.Value
	}
	if n.Ready, n.Condition = condition(node); n.Ready {
		n.Condition = ""
	}
	n.Unconnected = !n.Ready && strings.Contains(n.Condition, "NetworkPluginNotReady") // in the kubelet's message
	var last applied
	// Ignore a damaged annotation: what it listed then counts as set by others.
	if err := json.Unmarshal([]byte(node.Annotations[appliedAnnotation]), &last); err == nil {
		n.RecordedLabels, n.RecordedTaints = last.Labels, last.Taints
	}
	return n
}

func taintName(t corev1.Taint) string { return t.Key + ":" + string(t.Effect) }

// EnsureNode waits for a node to register, and then sets its labels and taints. It removes labels
// and taints that an earlier call set and that are no longer desired, and labels that must be
// absent. It returns when the node is Ready in the desired version, and nothing keeps pods from it
// (Trouble). report gets each new reason for waiting. It ends with ctx; the error says what was
// last seen.
func (c *Client) EnsureNode(ctx context.Context, name string, want Node, report func(condition string)) error {
	last := "it has not registered"
	done := func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		if !ok || e.Type == watch.Deleted {
			last = "it has not registered"
			return false, nil
		}
		if patch := want.patch(node); patch != nil {
			return false, c.patchNode(ctx, name, patch) // the change arrives as another event
		}
		have := observed(node)
		ready, why := have.Fits(want), cmp.Or(have.Condition, "Ready")
		if ready && have.Version != want.Version {
			ready, why = false, "its kubelet is still "+have.Version
		}
		if trouble := have.Trouble(want); ready && len(trouble) > 0 {
			ready, why = false, strings.Join(trouble, ", ")
		}
		if !ready && why != last {
			report(why)
		}
		last = why
		return ready, nil
	}
	_, err := toolswatch.UntilWithSync(ctx, c.watchNode(ctx, name), &corev1.Node{}, nil, done)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the watch only says that it was interrupted
	}
	if err != nil {
		return fmt.Errorf("node %s is not in the desired state: %s: %w", name, last, err)
	}
	return nil
}

// Fits reports whether a node is as Ready as desired.
func (n Node) Fits(want Node) bool { return n.Ready || !want.Ready && n.Unconnected }

// patchNode ignores conflicts with concurrent writes.
func (c *Client) patchNode(ctx context.Context, name string, patch []byte) error {
	err := retryTransient(ctx, func() error {
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

// condition reports whether a node is Ready, and if not, the kubelet's reason.
func condition(node *corev1.Node) (ready bool, why string) {
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

// patch returns the patch that sets a node's labels and taints, or nil if it has them. Labels and
// taints of others are kept.
func (n Node) patch(node *corev1.Node) []byte {
	have := observed(node)
	labels := map[string]any{}
	for k, v := range n.Labels {
		if h, ok := have.Labels[k]; !ok || h != v {
			labels[k] = v
		}
	}
	for _, k := range slices.Concat(slices.Collect(maps.Keys(have.RecordedLabels)), n.Absent) {
		_, wanted := n.Labels[k]
		if _, there := have.Labels[k]; there && !wanted {
			labels[k] = nil // a null removes it
		}
	}
	taints, differ := n.mergeTaints(node, have)
	recorded := maps.Equal(have.RecordedLabels, n.Labels) && maps.Equal(have.RecordedTaints, n.Taints)
	if len(labels) == 0 && !differ && recorded {
		return nil
	}
	metadata := map[string]any{"labels": labels, "annotations": map[string]any{appliedAnnotation: n.record()}}
	patch := map[string]any{"metadata": metadata}
	if differ {
		// The patch replaces the whole list; the resource version makes it fail after a concurrent
		// write.
		metadata["resourceVersion"] = node.ResourceVersion
		patch["spec"] = map[string]any{"taints": taints}
	}
	return marshal(patch)
}

// mergeTaints returns the node's desired taints, in their order, and whether they differ.
func (n Node) mergeTaints(node *corev1.Node, have Node) (taints []corev1.Taint, differ bool) {
	for _, t := range node.Spec.Taints {
		want, wanted := n.Taints[taintName(t)]
		_, ours := have.RecordedTaints[taintName(t)]
		switch {
		case wanted && want != t.Value:
			t.Value, t.TimeAdded, differ = want, nil, true
		case !wanted && ours:
			differ = true
			continue
		}
		taints = append(taints, t)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Taints)) {
		if _, there := have.Taints[name]; !there {
			key, effect, _ := strings.Cut(name, ":")
			taints, differ = append(taints, corev1.Taint{Key: key, Value: n.Taints[name], Effect: corev1.TaintEffect(effect)}), true
		}
	}
	return taints, differ
}

func (n Node) record() string { return string(marshal(applied{n.Labels, n.Taints})) }

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return text
}
