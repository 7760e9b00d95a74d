package converge

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// fakeAPI has what a gate asks for.
type fakeAPI struct {
	nodes      corev1.NodeList
	deployment appsv1.Deployment
	pods       corev1.PodList
	asked      int
	then       func(*fakeAPI) // after the first answer about nodes
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]any{
		"/api/v1/nodes": &f.nodes, "/apis/apps/v1/namespaces/kube-system/deployments/coredns": &f.deployment,
		"/api/v1/namespaces/kube-system/pods": &f.pods,
	}[r.URL.Path]
	_ = json.NewEncoder(w).Encode(answer)
	if r.URL.Path == "/api/v1/nodes" {
		if f.asked++; f.asked == 1 && f.then != nil {
			f.then(f)
		}
	}
}

// usableAPI is one whose cluster can be used.
func usableAPI(nodes ...string) *fakeAPI {
	f := &fakeAPI{}
	f.nodes.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}
	f.pods.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}
	for _, name := range nodes {
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		f.nodes.Items = append(f.nodes.Items, node)
	}
	replicas := int32(2)
	f.deployment = appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "coredns", Namespace: "kube-system", Generation: 1},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}}},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1},
	}
	return f
}

// unschedulable is a pod that no node takes.
func unschedulable(f *fakeAPI) {
	f.deployment.Status.AvailableReplicas = 0
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "coredns-1"}}
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available",
	}}
	f.pods.Items = append(f.pods.Items, pod)
}

func shortOfDisk(f *fakeAPI) {
	node := &f.nodes.Items[0]
	node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{
		Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure",
	})
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule}}
}

// usableWithin is what the gate says in the end, where it has little time.
func usableWithin(t *testing.T, f *fakeAPI, change func(*Runner)) error {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	api, err := kube.New(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	in := fixture.Input(t)
	r := &Runner{View: View{Input: in, Desired: fixture.Desired(t, in), API: api}}
	if change != nil {
		change(r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*usableInterval)
	defer cancel()
	return r.awaitUsable(ctx, plan.Step{})
}

func TestAwaitUsable(t *testing.T) {
	t.Parallel()
	full := func(r *Runner) { // a disk that the kubelet is going to complain of
		r.Observed.Hosts = map[string]stack.HostState{"demo-cp-2": {Facts: stack.Facts{FreeBytes: 1, DiskBytes: 100}}}
	}
	alone := func(r *Runner) { r.Input.Cluster.Spec.Network.Plugin = "none" }
	for name, tt := range map[string]struct {
		api    func(*fakeAPI)
		runner func(*Runner)
		want   []string // none is well
	}{
		"well": {},
		"cordoned": {api: func(f *fakeAPI) {
			f.nodes.Items[0].Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: "NoSchedule"}}
		}},
		"no DNS": {api: unschedulable, want: []string{"coredns: 0 of 2 pods are available", "pod coredns-1: Unschedulable: 0/1 nodes are available"}},
		"DNS of before": {
			api:  func(f *fakeAPI) { f.deployment.Status.UpdatedReplicas = 1 },
			want: []string{"1 of 2 pods are available, but old pods have not been replaced"},
		},
		"pressure": {api: shortOfDisk, want: []string{"node demo-cp-2: DiskPressure: KubeletHasDiskPressure"}},
		"pressure that is foreseen and comes late": {
			api: func(f *fakeAPI) { f.then = shortOfDisk }, runner: full, want: []string{"node demo-cp-2: DiskPressure"},
		},
		"pressure of a host that is left alone": {
			api: shortOfDisk, runner: func(r *Runner) { r.Situation.Held = map[string][]string{"demo-cp-2": {"it cannot be reached"}} },
		},
		"a cloud's taint": {
			api: func(f *fakeAPI) {
				f.nodes.Items[0].Spec.Taints = []corev1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized", Effect: "NoSchedule"}}
			},
			want: []string{"node demo-cp-2: taint node.cloudprovider.kubernetes.io/uninitialized:NoSchedule"},
		},
		"no DNS before there is a network": {api: unschedulable, runner: alone},
	} {
		t.Run(name, func(t *testing.T) {
			f := usableAPI("demo-cp-2")
			if tt.api != nil {
				tt.api(f)
			}
			err := usableWithin(t, f, tt.runner)
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("error is %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		})
	}
}

// The number of DNS pods is the spec's only where it says one, and server blocks of the spec come after the cluster's own.
func TestManifestsOfDNS(t *testing.T) {
	in := fixture.Input(t)
	text, err := stack.Manifests(in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), kube.YieldAnnotation+": spec.replicas}\nspec:\n  replicas: 2\n") {
		t.Errorf("replicas are not left to others:\n%s", text)
	}
	in.Cluster.Spec.Network.DNS.Replicas = 5
	in.Cluster.Spec.Network.DNS.ExtraCorefile = "corp.example:53 {\n  forward . 192.0.2.53\n}\n"
	if text, err = stack.Manifests(in); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), kube.YieldAnnotation) || !strings.Contains(string(text), "  replicas: 5\n") {
		t.Errorf("the spec's replicas are not owned:\n%s", text)
	}
	if !strings.Contains(string(text), "        loadbalance\n    }\n    corp.example:53 {\n      forward . 192.0.2.53\n    }\n---\n") {
		t.Errorf("the server block is not there:\n%s", text)
	}
}
