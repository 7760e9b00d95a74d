package kube

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
)

// Workloads lists the workloads that read the cluster's CA or a service account's token, by
// namespace, kind and name, with their budgets and their strategy. It requests lists in pages, and
// of Secrets only the names of tokens.
func (c *Client) Workloads(ctx context.Context) ([]Workload, error) {
	g := gathered{controllers: map[key]*controller{}, tokens: map[types.NamespacedName]bool{}}
	core := c.typed.CoreV1().RESTClient()
	tokens := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()}
	err := c.names(ctx, "secrets", tokens, func(s types.NamespacedName) { g.tokens[s] = true })
	if err == nil {
		err = list(ctx, core, "pods", "", metav1.ListOptions{}, func() runtime.Object { return &corev1.PodList{} }, g.pod)
	}
	// List controllers after pods, so that the controllers of all pods are known.
	for _, kind := range controllerTable {
		if err == nil {
			err = list(ctx, kind.api(c), kind.resource, "", metav1.ListOptions{}, kind.list, func(o metav1.Object) {
				k := kind.controllerOf(o)
				g.controllers[k.key] = k
			})
		}
	}
	if err == nil {
		g.budgets, err = c.budgets(ctx, "")
	}
	if err != nil {
		return nil, fmt.Errorf("list the workloads that read the cluster's CA: %w", err)
	}
	return g.workloads(), nil
}

// list calls do for each object of a resource, page by page; an empty namespace means all
// namespaces.
func list[T any](
	ctx context.Context, api rest.Interface, resource, namespace string, options metav1.ListOptions,
	empty func() runtime.Object, do func(T),
) error {
	page := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		objects := empty()
		return objects, api.Get().Namespace(namespace).Resource(resource).VersionedParams(&o, scheme.ParameterCodec).Do(ctx).Into(objects)
	})
	err := page.EachListItem(ctx, options, func(o runtime.Object) error {
		do(any(o).(T)) // a list has items of one type
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", resource, err)
	}
	return nil
}

// budgets lists the PodDisruptionBudgets of a namespace, or of all namespaces.
func (c *Client) budgets(ctx context.Context, namespace string) (budgets []covering, err error) {
	err = list(ctx, c.typed.PolicyV1().RESTClient(), "poddisruptionbudgets", namespace, metav1.ListOptions{},
		func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		func(b *policyv1.PodDisruptionBudget) { budgets = append(budgets, coveringOf(b)) })
	return budgets, err
}

// covering is a budget with its selector.
type covering struct {
	Budget
	namespace string
	selector  labels.Selector
}

func coveringOf(b *policyv1.PodDisruptionBudget) covering {
	c := covering{Budget{Name: b.Name, minAvailable: b.Spec.MinAvailable, maxUnavailable: b.Spec.MaxUnavailable}, b.Namespace, labels.Nothing()}
	if b.Status.ObservedGeneration >= b.Generation {
		c.Allowed = b.Status.DisruptionsAllowed
	}
	if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil {
		c.selector = s
	}
	return c
}

// gathered is the data from which workloads are built.
type gathered struct {
	tokens      map[types.NamespacedName]bool
	pods        []gatheredPod
	controllers map[key]*controller
	budgets     []covering
}

type gatheredPod struct {
	Pod
	at, owner key
	labels    labels.Set
	reads     bool
}

func (g *gathered) pod(pod *corev1.Pod) {
	if !counts(pod) {
		return
	}
	p := gatheredPod{Pod: podOf(pod), at: key{"Pod", pod.Namespace, pod.Name}, owner: ownerOf(pod), labels: pod.Labels}
	p.reads = readsTrust(&pod.Spec, func(secret string) bool {
		return g.tokens[types.NamespacedName{Namespace: pod.Namespace, Name: secret}]
	})
	g.pods = append(g.pods, p)
}

// top follows the owners of a pod up to the top controller, as far as slipway knows the kinds. The
// controller is nil if nothing is known to replace the pod.
func (g *gathered) top(p gatheredPod) (key, *controller) {
	at := p.owner
	if at == (key{}) {
		return p.at, nil
	}
	k := g.controllers[at]
	for k != nil {
		above := g.controllers[k.owner]
		if above == nil {
			break
		}
		at, k = above.key, above
	}
	switch {
	case k == nil:
		return at, nil
	case !k.endless && k.owner != (key{}):
		return k.owner, nil // a CronJob
	case !k.endless:
		return at, nil
	}
	return at, k
}

func (g *gathered) workloads() []Workload {
	all := map[key]*Workload{}
	known := map[key]*controller{}
	covered := map[key]map[string]Budget{} // by workload
	covers := map[key]map[key]bool{}       // by budget: the workloads
	budgets := map[string][]covering{}
	for _, b := range g.budgets {
		budgets[b.namespace] = append(budgets[b.namespace], b)
	}
	for _, p := range g.pods {
		at, k := g.top(p)
		w := all[at]
		if w == nil {
			w = &Workload{Kind: at.kind, Namespace: at.namespace, Name: at.name}
			all[at], known[at], covered[at] = w, k, map[string]Budget{}
		}
		if p.reads {
			w.Pods = append(w.Pods, p.Pod)
		}
		for _, name := range w.cover(budgets[at.namespace], p.labels, covered[at]) {
			budget := key{"PodDisruptionBudget", at.namespace, name}
			if covers[budget] == nil {
				covers[budget] = map[key]bool{}
			}
			covers[budget][at] = true
		}
	}
	var found []Workload
	for at, w := range all {
		if len(w.Pods) == 0 {
			continue
		}
		for name, b := range covered[at] {
			b.Shared = len(covers[key{"PodDisruptionBudget", at.namespace, name}]) > 1
			w.Budgets = append(w.Budgets, b)
		}
		w.sort()
		w.decide(known[at])
		found = append(found, *w)
	}
	slices.SortFunc(found, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return found
}

// cover adds the budgets that cover a pod to of, and returns their names.
func (w *Workload) cover(budgets []covering, pod labels.Set, of map[string]Budget) (names []string) {
	for _, b := range budgets {
		if b.selector.Matches(pod) {
			of[b.Name] = b.Budget
			names = append(names, b.Name)
		}
	}
	if len(names) > 1 {
		w.crowded = names
	}
	return names
}

func (w *Workload) sort() {
	slices.SortFunc(w.Pods, func(a, b Pod) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(w.Budgets, func(a, b Budget) int { return cmp.Compare(a.Name, b.Name) })
}

// refresh reads a workload's current budgets, which may have changed since it was listed, and
// decides the strategy again. A new budget is assumed to be shared with other workloads.
func (w *Workload) refresh(k *controller, pods []*corev1.Pod, budgets []covering) {
	shared := map[string]bool{}
	for _, b := range w.Budgets {
		shared[b.Name] = b.Shared
	}
	covered := map[string]Budget{}
	w.crowded = nil
	for _, p := range pods {
		w.cover(budgets, p.Labels, covered)
	}
	w.Budgets = slices.Collect(maps.Values(covered))
	for i := range w.Budgets {
		was, known := shared[w.Budgets[i].Name]
		w.Budgets[i].Shared = was || !known
	}
	w.sort()
	w.decide(k)
}
