package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/testing/controlplane"
)

// TestRolloutAgainstAPIServer has no controllers beside it: the tests play them.
func TestRolloutAgainstAPIServer(t *testing.T) {
	c := newTestClient(t, controlplane.StartAPIServer(t))
	for name, test := range map[string]func(*testing.T, *Client){
		"Workloads":     testWorkloads,
		"Restart":       testRestart,
		"RestartFails":  testRestartFails,
		"Evict":         testEvict,
		"EvictNone":     testEvictNone,
		"Gone":          testRolloutGone,
		"All":           testRolloutAll,
		"Rewrite":       testRewriteSecrets,
		"SignClient":    testSignClient,
		"TokenSecrets":  testTokenSecrets,
		"Now":           testNow,
		"DropClientCAs": testDropClientCAs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

// stageOf is a namespace of its own, in which a test plays the controllers.
type stageOf struct {
	*testing.T
	c         *Client
	namespace string
	ctx       context.Context
}

func newStage(t *testing.T, c *Client) *stageOf {
	t.Helper()
	name := strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute) // that of the test ends before what cleans up
	t.Cleanup(cancel)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.typed.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return &stageOf{t, c, name, ctx}
}

func (s *stageOf) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// pod makes one that is Ready; owner may be nil.
func (s *stageOf) pod(name, spec string, owner metav1.Object, kind string) {
	s.Helper()
	p := decode[corev1.Pod](s.T, "metadata: {name: "+name+", labels: {app: web}}\nspec: {serviceAccountName: default, containers: [{name: c, image: c}], terminationGracePeriodSeconds: 0, "+spec+"}")
	if owner != nil {
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind(kind))}
	}
	p, err := s.c.typed.CoreV1().Pods(s.namespace).Create(s.ctx, p, metav1.CreateOptions{})
	s.must(err)
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	_, err = s.c.typed.CoreV1().Pods(s.namespace).UpdateStatus(s.ctx, p, metav1.UpdateOptions{})
	s.must(err)
}

const reads = "volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token}}]}}]"

func (s *stageOf) names() (names []string) {
	list, err := s.c.typed.CoreV1().Pods(s.namespace).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names
}

// replicaSet makes one with Ready pods web-1 and so on, which the test replaces when they go, as
// web-a and so on.
func (s *stageOf) replicaSet(replicas int32) *appsv1.ReplicaSet {
	s.Helper()
	r := decode[appsv1.ReplicaSet](s.T, `{metadata: {name: web}, spec: {selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: c}]}}}}`)
	r.Spec.Replicas = &replicas
	r, err := s.c.typed.AppsV1().ReplicaSets(s.namespace).Create(s.ctx, r, metav1.CreateOptions{})
	s.must(err)
	for i := range replicas {
		s.pod(fmt.Sprintf("web-%d", i+1), reads, r, "ReplicaSet")
	}
	return r
}

// pause lets a full second pass, for pods know their age in seconds, and says when that was.
func (s *stageOf) pause() time.Time {
	time.Sleep(1100 * time.Millisecond)
	return time.Now().Truncate(time.Second)
}

func (s *stageOf) workload() Workload {
	s.Helper()
	all, err := s.c.Workloads(s.ctx)
	s.must(err)
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Namespace == s.namespace })
	if i < 0 {
		s.Fatalf("nothing in namespace %s", s.namespace)
	}
	return all[i]
}

func testWorkloads(t *testing.T, c *Client) {
	s := newStage(t, c)
	r := s.replicaSet(1)
	s.pod("bare", "volumes: [{name: v, secret: {secretName: token}}]", nil, "")
	s.pod("password", "volumes: [{name: v, secret: {secretName: password}}]", nil, "")
	s.pod("ended", reads, r, "ReplicaSet")
	ended, err := c.typed.CoreV1().Pods(s.namespace).Get(s.ctx, "ended", metav1.GetOptions{})
	s.must(err)
	ended.Status.Phase = corev1.PodSucceeded
	_, err = c.typed.CoreV1().Pods(s.namespace).UpdateStatus(s.ctx, ended, metav1.UpdateOptions{})
	s.must(err)
	for name, kind := range map[string]corev1.SecretType{"token": corev1.SecretTypeServiceAccountToken, "password": corev1.SecretTypeOpaque} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}}, Type: kind}
		_, err := c.typed.CoreV1().Secrets(s.namespace).Create(s.ctx, secret, metav1.CreateOptions{})
		s.must(err)
	}
	budget := decode[policyv1.PodDisruptionBudget](t, "{metadata: {name: web}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}")
	_, err = c.typed.PolicyV1().PodDisruptionBudgets(s.namespace).Create(s.ctx, budget, metav1.CreateOptions{})
	s.must(err)

	all, err := c.Workloads(s.ctx)
	s.must(err)
	var got []string
	for _, w := range all {
		if w.Namespace != s.namespace {
			continue
		}
		for _, p := range w.Pods {
			if p.UID == "" || p.Started.IsZero() || !p.Ready {
				t.Errorf("pod %+v", p)
			}
		}
		got = append(got, fmt.Sprintf("%s, %d pods: %s", w, len(w.Pods), w.Describe()))
	}
	want := []string{
		"Pod workloads/bare, 1 pods: left to you: nothing would replace it",
		// The budget's controller has said nothing yet, so it allows nothing.
		"ReplicaSet workloads/web, 1 pods: evict one by one (a ReplicaSet has no update strategy), budget workloads/web allows 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// deployment makes one whose pods are web-1 and web-2, by way of a ReplicaSet.
func (s *stageOf) deployment() *appsv1.Deployment {
	s.Helper()
	d := decode[appsv1.Deployment](s.T, `{metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: c}]}}}}`)
	d, err := s.c.typed.AppsV1().Deployments(s.namespace).Create(s.ctx, d, metav1.CreateOptions{})
	s.must(err)
	r := s.replicaSet(2)
	r.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	_, err = s.c.typed.AppsV1().ReplicaSets(s.namespace).Update(s.ctx, r, metav1.UpdateOptions{})
	s.must(err)
	s.status(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 })
	return d
}

// status writes what the Deployment's controller would: that it has seen all, with 2 replicas that
// are available.
func (s *stageOf) status(change func(*appsv1.Deployment)) {
	s.Helper()
	d, err := s.c.typed.AppsV1().Deployments(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	s.must(err)
	d.Status.ObservedGeneration, d.Status.Replicas, d.Status.AvailableReplicas, d.Status.ReadyReplicas = d.Generation, 2, 2, 2
	change(d)
	_, err = s.c.typed.AppsV1().Deployments(s.namespace).UpdateStatus(s.ctx, d, metav1.UpdateOptions{})
	s.must(err)
}

func (s *stageOf) rollout(w Workload, since time.Time) (reports <-chan string, ended <-chan error) {
	r, e := make(chan string, 100), make(chan error, 1)
	go func() { e <- s.c.Rollout(s.ctx, w, since, func(what string) { r <- what }) }()
	return r, e
}

func (s *stageOf) template() map[string]string {
	d, err := s.c.typed.AppsV1().Deployments(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	s.must(err)
	return d.Spec.Template.Annotations
}

func testRestart(t *testing.T, c *Client) {
	s := newStage(t, c)
	s.deployment()
	since := s.pause()
	w := s.workload()
	if w.Strategy != Restart || len(Stale([]Workload{w}, since)[0].Pods) != 2 {
		t.Fatalf("%+v", w)
	}
	reports, ended := s.rollout(w, since)
	if got := <-reports; got != "rollout restart" {
		t.Errorf("reported %q", got)
	}
	<-reports // that it is under way: the patch is there
	ordered := s.template()[restartedAt]
	if at, err := time.Parse(time.RFC3339, ordered); err != nil || !at.After(since) {
		t.Fatalf("restartedAt is %q, since is %v", ordered, since)
	}
	s.status(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 })
	if got := <-reports; got != "1 of 2 pods are new, 2 available" {
		t.Errorf("reported %q", got)
	}

	// Another slipway, after the first was killed: it waits and orders nothing.
	time.Sleep(1100 * time.Millisecond) // a second order would have another time
	later, laterEnded := s.rollout(s.workload(), since)
	if got := <-later; got != "1 of 2 pods are new, 2 available" {
		t.Errorf("reported %q", got)
	}
	if got := s.template()[restartedAt]; got != ordered {
		t.Errorf("it was restarted again: %s after %s", got, ordered)
	}
	rs, err := c.typed.AppsV1().ReplicaSets(s.namespace).Get(s.ctx, "web", metav1.GetOptions{})
	s.must(err)
	for _, name := range []string{"web-a", "web-b"} {
		s.pod(name, reads, rs, "ReplicaSet")
	}
	s.must(c.typed.CoreV1().Pods(s.namespace).Delete(s.ctx, "web-1", metav1.DeleteOptions{}))
	// The other one is told to end, and does not yet.
	patch := []byte(`{"metadata":{"finalizers":["example.com/slow"]}}`)
	_, err = c.typed.CoreV1().Pods(s.namespace).Patch(s.ctx, "web-2", types.MergePatchType, patch, metav1.PatchOptions{})
	s.must(err)
	s.must(c.typed.CoreV1().Pods(s.namespace).Delete(s.ctx, "web-2", metav1.DeleteOptions{}))
	s.status(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 })
	for got := range reports {
		if got == "web-2 has been told to end, and is not gone" {
			break
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended with %v while an old pod was there", err)
	default:
	}
	patch = []byte(`{"metadata":{"finalizers":null}}`)
	_, err = c.typed.CoreV1().Pods(s.namespace).Patch(s.ctx, "web-2", types.MergePatchType, patch, metav1.PatchOptions{})
	s.must(err)
	if err := errors.Join(<-ended, <-laterEnded); err != nil {
		t.Error(err)
	}
	if left := Stale([]Workload{s.workload()}, since); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	s.must(c.Rollout(s.ctx, s.workload(), since, func(what string) { t.Errorf("when all is done, it says %q", what) }))
}

func testRestartFails(t *testing.T, c *Client) {
	s := newStage(t, c)
	s.deployment()
	since := s.pause()
	reports, ended := s.rollout(s.workload(), since)
	for range 2 {
		<-reports
	}
	s.status(func(d *appsv1.Deployment) {
		d.Status.UpdatedReplicas = 1
		d.Status.Conditions = []appsv1.DeploymentCondition{{
			Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "no room",
		}}
	})
	if err := <-ended; err == nil || err.Error() != "roll Deployment restartfails/web: its rollout does not progress: no room" {
		t.Errorf("error %v", err)
	}
	why := errors.New("time is up")
	ctx, cancel := context.WithTimeoutCause(s.ctx, 2*time.Second, why)
	defer cancel()
	s.status(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Status.Conditions = 1, nil })
	err := c.Rollout(ctx, s.workload(), since, func(string) {})
	if !errors.Is(err, why) || !strings.Contains(err.Error(), "1 of 2 pods are new") {
		t.Errorf("error %v", err)
	}
}

func testRolloutGone(t *testing.T, c *Client) {
	s := newStage(t, c)
	s.must(c.Rollout(s.ctx, Workload{Kind: "Deployment", Namespace: s.namespace, Name: "gone", Strategy: Restart}, time.Now(), func(string) {}))
	err := c.Rollout(s.ctx, Workload{Kind: "Pod", Namespace: s.namespace, Name: "bare", Strategy: Unmanaged, Why: "nothing would replace it"}, time.Now(), func(string) {})
	if err == nil || err.Error() != "Pod gone/bare is not rolled: nothing would replace it" {
		t.Errorf("error %v", err)
	}
}

func testRolloutAll(t *testing.T, c *Client) {
	s := newStage(t, c)
	r := s.replicaSet(2)
	since := s.pause()
	s.play(r, 0)
	shared := []Budget{{Name: "shared"}}
	broken := Workload{Kind: "Puppet", Namespace: s.namespace, Name: "broken", Strategy: Evict, Budgets: shared}
	behind := Workload{Kind: "Puppet", Namespace: s.namespace, Name: "behind", Strategy: Evict, Budgets: shared}
	bare := Workload{Kind: "Pod", Namespace: s.namespace, Name: "bare", Strategy: Unmanaged}
	var mu sync.Mutex
	var reported []string
	err := c.RolloutAll(s.ctx, []Workload{broken, behind, bare, s.workload()}, since, 2, func(w Workload, what string) {
		mu.Lock()
		defer mu.Unlock()
		reported = append(reported, w.Name+": "+what)
	})
	want := "roll Puppet all/broken: Puppet all/broken cannot be rolled; not begun, for a budget is shared with it: Puppet all/behind"
	if err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
	if got := strings.Join(s.names(), " "); got != "web-a web-b" {
		t.Errorf("pods are %s", got)
	}
	if len(reported) == 0 || !strings.HasPrefix(reported[0], "web: evict one by one") {
		t.Errorf("reported %q", reported)
	}
}
