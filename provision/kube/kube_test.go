package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/testing/controlplane"
)

func newTestClient(t *testing.T, p *controlplane.Process) *Client {
	t.Helper()
	c, err := New(Config(nil, p.URL(), p.CA, p.Cert, secret.Bytes(p.Key)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAgainstAPIServer shares one API server between its parts, for one takes seconds to start.
func TestAgainstAPIServer(t *testing.T) {
	server := controlplane.StartAPIServer(t)
	c := newTestClient(t, server)
	for name, test := range map[string]func(*testing.T, *Client){
		"ApplyAndDiff":     testApplyAndDiff,
		"ApplyDefinitions": testApplyDefinitions,
		"ApplyRefusals":    testApplyRefusals,
		"BuiltInKinds":     testBuiltInKinds,
		"EnsureNode":       testEnsureNode,
		"EnsureNodeEnds":   testEnsureNodeEnds,
		"Nodes":            testNodes,
		"Yield":            testYield,
		"EnsureNodeTakes":  testEnsureNodeTakes,
		"Dial":             func(t *testing.T, _ *Client) { testDial(t, server) },
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
	t.Run("Certificates", func(t *testing.T) { testCertificates(t, c, server.CA) }) // leaves an API that nobody serves
	t.Run("Ready", func(t *testing.T) { testReady(t, c, server) })                  // stops the server
}

const manifests = `# an empty document comes first
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: web, image: "example/web:1", resources: {requests: {cpu: "0.1", memory: 64Mi}}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: shop-reader}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get]}]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: unplaced}
data: {key: value}
`

func changes(t *testing.T, f func(context.Context, []byte) ([]Change, error), manifests string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := f(ctx, []byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, change := range got {
		all = append(all, change.String())
	}
	return strings.Join(all, ", ")
}

func testApplyAndDiff(t *testing.T, c *Client) {
	all := "Deployment shop/web is missing, Service shop/web is missing, ServiceAccount shop/web is missing, " +
		"ClusterRole shop-reader is missing, Namespace shop is missing, ConfigMap unplaced is missing"
	if got := changes(t, c.Diff, manifests); got != all {
		t.Errorf("with nothing there, Diff says %s", got)
	}
	if got := changes(t, c.Apply, manifests); strings.Count(got, "is missing") != 6 {
		t.Errorf("the first Apply says %s", got)
	}
	begin := time.Now()
	if got := changes(t, c.Diff, manifests); got != "" {
		t.Errorf("after Apply, Diff says %s", got)
	}
	t.Logf("a Diff of 6 objects took %v", time.Since(begin))
	if got := changes(t, c.Apply, manifests); got != "" {
		t.Errorf("the second Apply says %s", got)
	}

	// Others change a field of ours and one that is not ours: only the first is a difference.
	deployment, err := c.Typed().AppsV1().Deployments("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	five := int32(5)
	deployment.Spec.Replicas = &five
	deployment.Annotations = map[string]string{"theirs": "stays"}
	if _, err := c.Typed().AppsV1().Deployments("shop").Update(t.Context(), deployment, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	service, err := c.Typed().CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	service.Labels = map[string]string{"theirs": "too"}
	if _, err := c.Typed().CoreV1().Services("shop").Update(t.Context(), service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := changes(t, c.Diff, manifests); got != "Deployment shop/web differs" {
		t.Errorf("after a change, Diff says %s", got)
	}
	if diff, err := c.Diff(t.Context(), []byte(manifests)); err != nil || len(diff) != 1 || diff[0].By == "" /* the client's user agent */ || diff[0].At.Before(begin.Truncate(time.Second)) ||
		!strings.Contains(diff[0].Live, "replicas: 5") || !strings.Contains(diff[0].Wanted, "replicas: 2") {
		t.Errorf("after a change, Diff says %#v, %v", diff, err)
	}
	if got := changes(t, c.Apply, manifests); got != "Deployment shop/web differs" {
		t.Errorf("after a change, Apply says %s", got)
	}
	deployment, err = c.Typed().AppsV1().Deployments("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *deployment.Spec.Replicas != 2 || deployment.Annotations["theirs"] != "stays" {
		t.Errorf("the deployment has %d replicas and annotations %v", *deployment.Spec.Replicas, deployment.Annotations)
	}
}

const definition = `
apiVersion: example.com/v1
kind: Boat
metadata: {name: ark}
spec: {masts: 3}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
  group: example.com
  names: {kind: Boat, plural: boats, singular: boat, listKind: BoatList}
  scope: Cluster
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {masts: {type: integer}}}}}}
`

func testApplyDefinitions(t *testing.T, c *Client) {
	if got := changes(t, c.Diff, definition); got != "Boat ark is missing, CustomResourceDefinition boats.example.com is missing" {
		t.Errorf("Diff says %s", got)
	}
	if got := changes(t, c.Apply, definition); got != "CustomResourceDefinition boats.example.com is missing, Boat ark is missing" {
		t.Errorf("Apply says %s", got)
	}
	if got := changes(t, c.Diff, definition); got != "" {
		t.Errorf("after Apply, Diff says %s", got)
	}
}

func testApplyRefusals(t *testing.T, c *Client) {
	for name, tt := range map[string]struct{ manifest, want string }{
		"not YAML":       {"a: [", "read manifests"},
		"no kind":        {"apiVersion: v1\nmetadata: {name: x}", "needs apiVersion, kind"},
		"no name":        {"apiVersion: v1\nkind: Secret", "needs apiVersion, kind and metadata.name"},
		"unknown kind":   {"apiVersion: v1\nkind: Sekret\nmetadata: {name: x}", "apply Sekret x: the API server knows no kind Sekret in v1"},
		"unknown group":  {"apiVersion: nowhere/v1\nkind: Secret\nmetadata: {name: x}", "knows no kind Secret in nowhere/v1"},
		"no namespace":   {"apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: nowhere}", `apply Secret nowhere/x: namespaces "nowhere" not found`},
		"unknown field":  {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndatum: {}", ".datum"},
		"of two, one":    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fine}\n---\napiVersion: v1\nkind: Sekret\nmetadata: {name: x}", "Sekret x"},
		"of two, either": {"apiVersion: v1\nkind: Sekret\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Sekret\nmetadata: {name: z}", "Sekret z"},
	} {
		_, err := c.Apply(t.Context(), []byte(tt.manifest))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		}
	}
}

// testBuiltInKinds compares what is known without discovery with discovery.
func testBuiltInKinds(t *testing.T, c *Client) {
	_, lists, err := c.Typed().Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			kind := version.WithKind(r.Kind)
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "patch") || kind.Group == "example.com" {
				continue
			}
			n++
			got, namespaced := builtIn(kind)
			if want := version.WithResource(r.Name); got != want || namespaced != r.Namespaced {
				t.Errorf("%s is taken for %s (namespaced: %v), and is %s (%v)", kind, got, namespaced, want, r.Namespaced)
			}
		}
	}
	if n < 30 {
		t.Errorf("discovery knew %d kinds: this test saw too little", n)
	}
	if !scheme.Scheme.Recognizes(corev1.SchemeGroupVersion.WithKind("Node")) {
		t.Error("client-go's scheme is empty")
	}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"theirs": "stays"}}}
	n.Spec.Taints = []corev1.Taint{{Key: "theirs", Effect: corev1.TaintEffectNoSchedule}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "KubeletNotReady", Message: "no network yet"}}
	return n
}

var controlPlane = Node{
	Labels: map[string]string{"node-role.kubernetes.io/control-plane": "", "tier": "one"},
	Taints: map[string]string{"node-role.kubernetes.io/control-plane:NoSchedule": ""},
}

func testEnsureNode(t *testing.T, c *Client) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conditions, ended := make(chan string, 10), make(chan error, 1)
	go func() {
		ended <- c.EnsureNode(ctx, "late", controlPlane, func(condition string) { conditions <- condition })
	}()
	nodes := c.Typed().CoreV1().Nodes()

	if _, err := nodes.Create(ctx, node("late", corev1.ConditionFalse), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := <-conditions; got != "NotReady: KubeletNotReady no network yet" {
		t.Errorf("reported %q", got)
	}
	registered, err := nodes.Get(ctx, "late", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"theirs": "stays", "tier": "one", "node-role.kubernetes.io/control-plane": ""} {
		if got, ok := registered.Labels[key]; !ok || got != want {
			t.Errorf("label %s is %q, %v", key, got, ok)
		}
	}
	for _, want := range []string{"theirs", "node-role.kubernetes.io/control-plane"} {
		if !slices.ContainsFunc(registered.Spec.Taints, func(t corev1.Taint) bool { return t.Key == want }) {
			t.Errorf("taints are %v, without %s", registered.Spec.Taints, want)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("it returned %v while the node was not Ready", err)
	default:
	}
	registered.Status.Conditions[0].Status = corev1.ConditionTrue
	if _, err := nodes.UpdateStatus(ctx, registered, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func testEnsureNodeEnds(t *testing.T, c *Client) {
	why := errors.New("time is up")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
	defer cancel()
	err := c.EnsureNode(ctx, "never", Node{}, func(string) {})
	if !errors.Is(err, why) || !strings.Contains(err.Error(), "node never") || !strings.Contains(err.Error(), "has not registered") {
		t.Errorf("error %v", err)
	}
}

// What EnsureNode gave and is no longer asked for goes; what others gave stays.
func testEnsureNodeTakes(t *testing.T, c *Client) {
	n := node("takes", corev1.ConditionTrue)
	n.Labels["role"] = "another-one"
	nodes := c.Typed().CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), n, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	nothing := func(string) {}
	first := Node{Labels: map[string]string{"tier": "one", "zone": "a"}, Taints: map[string]string{"gpu:NoSchedule": "yes", "slow:NoExecute": ""}}
	second := Node{Labels: map[string]string{"zone": "b"}, Absent: []string{"role"}, Taints: map[string]string{"gpu:NoSchedule": "no"}}
	for _, want := range []Node{first, second} {
		if err := c.EnsureNode(t.Context(), "takes", want, nothing); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Node{
		Labels: map[string]string{"theirs": "stays", "zone": "b"}, Ready: true,
		Taints:         map[string]string{"theirs:NoSchedule": "", "node.kubernetes.io/not-ready:NoSchedule": "", "gpu:NoSchedule": "no"},
		RecordedLabels: second.Labels, RecordedTaints: second.Taints,
	}
	if diff := cmp.Diff(want, all["takes"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testNodes(t *testing.T, c *Client) {
	if _, err := c.Typed().CoreV1().Nodes().Create(t.Context(), node("sick", corev1.ConditionUnknown), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Node{
		Labels: map[string]string{"theirs": "stays"},
		// The second is the API server's own, for every node that is new (TaintNodesByCondition).
		Taints:    map[string]string{"theirs:NoSchedule": "", "node.kubernetes.io/not-ready:NoSchedule": ""},
		Condition: "NotReady: KubeletNotReady no network yet",
	}
	if diff := cmp.Diff(want, all["sick"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, ok := all["absent"]; ok {
		t.Error("there is a node that is not there")
	}
}

// testDial takes another way to the server than the URL says, as through an SSH connection.
func testDial(t *testing.T, server *controlplane.Process) {
	var dials atomic.Int32
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "127.0.0.1:6444" {
			return nil, fmt.Errorf("asked for %s", address)
		}
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, server.Address)
	}
	c, err := New(Config(dial, "https://127.0.0.1:6444", server.CA, server.Cert, secret.Bytes(server.Key)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if dials.Load() != 1 {
		t.Errorf("%d dials", dials.Load())
	}
}

func testReady(t *testing.T, c *Client, server *controlplane.Process) {
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	server.Stop()
	var err error
	for began := time.Now(); time.Since(began) < 10*time.Second; { // at first the connection of before may break
		if err = c.Ready(t.Context()); err != nil && strings.Contains(err.Error(), "refused") {
			return
		}
	}
	t.Errorf("error %v", err)
}

func TestNewRefusesBadCertificates(t *testing.T) {
	_, err := New(Config(nil, "https://127.0.0.1:1", []byte("ca"), []byte("cert"), secret.Bytes("topsecret")))
	if err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("error %v", err)
	}
}
