package diagnose

import (
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func ask4(objects ...runtime.Object) *querying {
	return &querying{Interface: fake.NewClientset(objects...), api: &API{Asked: true}, now: noon}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour))}
}

func waiting(reason string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "c", Image: "i", RestartCount: 3, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "m"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 4}},
	}}}
}

func TestPods(t *testing.T) {
	yes := true
	owned := meta("default", "web-5d4-abc")
	owned.Labels = map[string]string{"pod-template-hash": "5d4"}
	owned.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5d4", Controller: &yes}}
	leaving := meta("default", "leaving")
	leaving.DeletionTimestamp, leaving.Finalizers = &metav1.Time{Time: noon}, []string{"x"}
	young := meta("default", "young")
	young.CreationTimestamp = metav1.NewTime(noon.Add(-time.Second))
	condition := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1"}
	q := ask4(
		&corev1.Pod{ObjectMeta: owned, Spec: corev1.PodSpec{NodeName: "n"}, Status: waiting("CrashLoopBackOff")},
		&corev1.Pod{ObjectMeta: meta("default", "image"), Status: waiting("ErrImagePull")},
		&corev1.Pod{ObjectMeta: meta("default", "creating"), Status: waiting("ContainerCreating")},
		&corev1.Pod{ObjectMeta: young, Status: waiting("ContainerCreating")},
		&corev1.Pod{ObjectMeta: leaving, Status: waiting("CrashLoopBackOff")},
		&corev1.Pod{ObjectMeta: meta("default", "done"), Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
		&corev1.Pod{ObjectMeta: meta("default", "evicted"), Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}},
		&corev1.Pod{ObjectMeta: meta("default", "failed"), Status: corev1.PodStatus{Phase: corev1.PodFailed}},
		&corev1.Pod{
			ObjectMeta: meta("default", "well"), Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {ContainerPort: 8080}}}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.3", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		},
		&corev1.Pod{ObjectMeta: meta("default", "nowhere"), Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{condition}}},
	)
	if err := q.pods(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range q.api.Pods {
		got[p.Owner] = p.Reason
	}
	want := map[string]string{
		"Deployment/web": "CrashLoopBackOff", "Pod/image": "ErrImagePull", "Pod/creating": "Pending", "Pod/evicted": "Evicted", "Pod/nowhere": "Unschedulable",
	}
	if len(got) != len(want) || q.api.PodCount != 10 {
		t.Errorf("got %v of %d pods", got, q.api.PodCount)
	}
	for owner, reason := range want {
		if got[owner] != reason {
			t.Errorf("%s: %q, want %q", owner, got[owner], reason)
		}
	}
	if got := q.api.Targets["n"].String(); got != "10.244.0.3:8080" || len(q.api.Targets) != 1 {
		t.Errorf("the pods to reach are %v", q.api.Targets)
	}
}

func TestLeasesAreCompared(t *testing.T) {
	lease := func(namespace, name string, ago time.Duration) *coordinationv1.Lease {
		holder, seconds := "h", int32(15)
		return &coordinationv1.Lease{ObjectMeta: meta(namespace, name), Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &metav1.MicroTime{Time: noon.Add(24*time.Hour - ago)},
		}}
	}
	q := ask4(lease(nodeLeases, "n", 2*time.Second), lease("kube-system", "kube-scheduler", 90*time.Second), lease("kube-system", "apiserver-x", -time.Hour))
	if err := q.leases(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(q.api.Leases) != 2 || q.api.Leases[0].Age != 0 || q.api.Leases[1].Age != 88*time.Second || q.api.Leases[1].Duration != 15*time.Second {
		t.Errorf("got %+v", q.api.Leases)
	}
}

func TestWebhooksWithoutABackend(t *testing.T) {
	hook := func(name, service string, policy admissionv1.FailurePolicyType) *admissionv1.ValidatingWebhookConfiguration {
		return &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionv1.ValidatingWebhook{{
			Name: name + ".example.com", FailurePolicy: &policy, ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "default", Name: service}},
		}}}
	}
	no := false
	part := func(service string, ready *bool) *discoveryv1.EndpointSlice {
		m := meta("default", service+"-1")
		m.Labels = map[string]string{discoveryv1.LabelServiceName: service}
		return &discoveryv1.EndpointSlice{ObjectMeta: m, Endpoints: []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: ready}}}}
	}
	q := ask4(
		hook("gone", "gone", admissionv1.Fail), hook("empty", "empty", admissionv1.Fail), hook("well", "well", admissionv1.Ignore),
		&corev1.Service{ObjectMeta: meta("default", "empty")}, part("empty", &no), &corev1.Service{ObjectMeta: meta("default", "well")}, part("well", nil),
	)
	if err := q.webhooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]Webhook{}
	for _, w := range q.api.Webhooks {
		got[w.Config] = w
	}
	switch {
	case got["gone"].Problem != "there is no Service default/gone" || !got["gone"].Fail,
		got["empty"].Problem != "Service default/empty has no ready endpoint",
		got["well"].Problem != "" || got["well"].Fail:
		t.Errorf("got %+v", got)
	}
}

func TestTheRestOfTheAPI(t *testing.T) {
	leaving := meta("", "leaving")
	leaving.DeletionTimestamp, leaving.Finalizers = &metav1.Time{Time: noon.Add(-time.Minute)}, []string{"kubernetes"}
	zero := int32(0)
	q := ask4(
		&corev1.Node{ObjectMeta: meta("", "n"), Spec: corev1.NodeSpec{Unschedulable: true}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Message: "full"},
		}}},
		&corev1.Node{ObjectMeta: meta("", "mute")},
		&corev1.Namespace{ObjectMeta: leaving, Status: corev1.NamespaceStatus{Conditions: []corev1.NamespaceCondition{{Status: corev1.ConditionTrue, Message: "left"}}}},
		&corev1.Namespace{ObjectMeta: meta("", "default")},
		&corev1.Secret{ObjectMeta: meta("kube-system", "bootstrap-token-abcdef"), Type: tokenType, Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "expiration": []byte("2026-11-27T11:00:00Z"),
		}},
		&appsv1.Deployment{ObjectMeta: meta("kube-system", "coredns"), Spec: appsv1.DeploymentSpec{Replicas: &zero}},
		&corev1.Event{ObjectMeta: meta("default", "e"), Type: "Warning", InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}, Reason: "Failed", Message: "no\nway"},
	)
	for _, query := range []func() error{
		func() error { return q.nodes(t.Context()) }, func() error { return q.namespaces(t.Context()) }, func() error { return q.tokens(t.Context()) },
		func() error { return q.dns(t.Context()) }, func() error { return q.events(t.Context()) },
	} {
		if err := query(); err != nil {
			t.Fatal(err)
		}
	}
	a := q.api
	n := a.Nodes[1]
	switch {
	case n.Ready || !n.Cordoned || n.Reason != "NodeStatusUnknown" || n.Pressure["DiskPressure"] != "full", a.Nodes[0].Ready || a.Nodes[0].Reason != "NoStatus":
		t.Errorf("the nodes are %+v", a.Nodes)
	case len(a.Terminating) != 1 || a.Terminating[0].For != time.Minute || a.Terminating[0].Why[0] != "left":
		t.Errorf("the namespaces are %+v", a.Terminating)
	case len(a.Tokens) != 1 || a.Tokens[0].ID != "abcdef" || !a.Tokens[0].Expired:
		t.Errorf("the tokens are %+v", a.Tokens)
	case !a.DNS.Exists || a.DNS.Want != 0 || a.DNS.Endpoints != 0:
		t.Errorf("the DNS is %+v", a.DNS)
	case len(a.Events) != 1 || a.Events[0].Object != "Pod default/p" || a.Events[0].Message != "no way":
		t.Errorf("the events are %+v", a.Events)
	}
}

func TestMetrics(t *testing.T) {
	var m Member
	m.metrics(strings.NewReader(`# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 1
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 4
etcd_disk_wal_fsync_duration_seconds_sum 0.4
etcd_disk_wal_fsync_duration_seconds_count 4
# TYPE etcd_server_leader_changes_seen_total counter
etcd_server_leader_changes_seen_total 7
`))
	if m.Fsync != 100*time.Millisecond || m.Commit != 0 || m.LeaderChanges != 7 {
		t.Errorf("got %+v", m)
	}
}
