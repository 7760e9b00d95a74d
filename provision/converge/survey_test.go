package converge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/testing/fixture"
)

// listing is an API that lists what it has, by path, and nothing else.
func listing(t *testing.T, lists map[string]any) *kube.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any = map[string]any{"items": []any{}}
		if strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata") {
			answer = map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "items": []any{}}
		} else if list, ok := lists[r.URL.Path]; ok {
			answer = list
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	api, err := kube.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// tokenSecret has a token that a key has signed, and barePod reads one.
func tokenSecret(t *testing.T, name string, publicKey []byte) corev1.Secret {
	t.Helper()
	id, err := keyID(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"kid":"` + id + `"}`))
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Type: corev1.SecretTypeServiceAccountToken,
		Data: map[string][]byte{corev1.ServiceAccountTokenKey: []byte(header + ".payload.signature")},
	}
}

func barePod(name string, created time.Time) corev1.Pod {
	token := corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(created)},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{{
			Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{token}}},
		}}},
	}
}

func surveyed(s Survey) string {
	return strings.Join(s.Nodes, " ") + "; " + strings.ReplaceAll(workloadNames(s.Workloads), ", ", " ") + "; " + strings.Join(s.TokenSecrets, " ")
}

// TestSurvey: what stage rollout has to do with is known before, and in the stage what is left; after it nothing is asked.
func TestSurvey(t *testing.T) {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in, other := fixture.Input(t), fixture.Input(t).PKI.Material[certs.ServiceAccounts]
	old := in.PKI.Material[certs.ServiceAccounts]
	api := listing(t, map[string]any{
		"/api/v1/nodes":   corev1.NodeList{Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, {ObjectMeta: metav1.ObjectMeta{Name: "a"}}}},
		"/api/v1/pods":    corev1.PodList{Items: []corev1.Pod{barePod("before", began), barePod("after", began.Add(3*time.Hour))}},
		"/api/v1/secrets": corev1.SecretList{Items: []corev1.Secret{tokenSecret(t, "of-new", other.Cert), tokenSecret(t, "of-old", old.Cert)}},
	})
	keys, authority := []string{certs.ServiceAccounts}, []string{certs.KubernetesCA}
	for _, tt := range []struct {
		names []string
		stage certs.Stage
		back  bool
		want  string
	}{
		{keys, certs.Trust, false, "a b; Pod shop/after Pod shop/before; shop/of-old"},
		{keys, certs.Tokens, false, "a b; Pod shop/after Pod shop/before; shop/of-old"},
		{keys, certs.Rollout, false, "a b; Pod shop/before; shop/of-old"},
		{keys, certs.Issue, false, "a b; ; "},
		{keys, certs.Return, true, "a b; Pod shop/after Pod shop/before; shop/of-new"},
		{authority, certs.Trust, false, "a b; Pod shop/after Pod shop/before; "},
	} {
		r := &certs.Rotation{Names: tt.names, Stage: tt.stage, Back: tt.back, Rolled: tt.back, Passed: []certs.Passed{{Stage: certs.Trust, At: began.Add(time.Hour)}}}
		stored := certs.Material{certs.ServiceAccounts: old, certs.NextName(certs.ServiceAccounts): other}
		pki := &certs.PKI{Rotation: r}
		pki.Material, pki.Other = r.View(stored)
		s, err := survey(t.Context(), api, pki)
		if got := surveyed(s); err != nil || got != tt.want {
			t.Errorf("%v at %s, back %t: %q, want %q; %v", tt.names, tt.stage, tt.back, got, tt.want, err)
		}
	}
}

// TestRollOfASituation: what stage rollout is about to do is a disruption, and known before it does it.
func TestRollOfASituation(t *testing.T) {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in := fixture.Input(t)
	in.PKI.Rotation = &certs.Rotation{Names: []string{certs.KubernetesCA}, Stage: certs.Rollout, Passed: []certs.Passed{{Stage: certs.Trust, At: began}}}
	r := &Runner{View: View{Input: in, API: listing(t, map[string]any{"/api/v1/pods": corev1.PodList{Items: []corev1.Pod{barePod("alone", began.Add(-time.Hour))}}})}}
	s := plan.Situation{Alive: true, Proofs: []plan.Proof{{Verb: plan.RollWorkloads}}}
	s.Roll = r.roll(t.Context(), s)
	got := plan.Disruptions(s, plan.Schedule(s))
	if len(got) != 1 || got[0].String() != "1 workload (1 pod) that nothing would replace: the stage waits until you have replaced Pod shop/alone" {
		t.Errorf("got %v", got)
	}
	if roll := r.roll(t.Context(), plan.Situation{Alive: true}); roll != nil {
		t.Errorf("nothing is rolled, and %v is said", roll)
	}
}

// TestWaitForPeople: whom people have to patch a Secret for is told in the end, too, and they get as long as with workloads.
func TestWaitForPeople(t *testing.T) {
	tokens, workloads := plan.Step{Verb: plan.AwaitTokens}.Timeout(), plan.Step{Verb: plan.RollWorkloads}.Timeout()
	if tokens != workloads || tokens < 12*time.Hour {
		t.Errorf("people get %v, and %v with workloads", tokens, workloads)
	}
	in, other := fixture.Input(t), fixture.Input(t).PKI.Material[certs.ServiceAccounts]
	in.PKI.Rotation = &certs.Rotation{}
	r := &Runner{View: View{Input: in, API: listing(t, map[string]any{
		"/api/v1/secrets": corev1.SecretList{Items: []corev1.Secret{tokenSecret(t, "scraper", other.Cert), tokenSecret(t, "robot", other.Cert)}},
	})}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := r.awaitTokens(ctx, plan.Step{})
	if err == nil || !strings.Contains(err.Error(), "shop/robot, shop/scraper; continue when") || !strings.Contains(err.Error(), RenewToken) {
		t.Errorf("got %v", err)
	}
	in.PKI.Rotation.SkipUnmanaged = true
	if err := r.awaitTokens(t.Context(), plan.Step{}); err != nil {
		t.Errorf("they are waited for all the same: %v", err)
	}
}
