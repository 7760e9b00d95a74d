package converge

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// publishing is a runner whose API has nothing but what extension API servers are told to trust.
func publishing(t *testing.T, in stack.Input, client, frontProxy []byte) *Runner {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			Data:     map[string]string{"client-ca-file": string(client), "requestheader-client-ca-file": string(frontProxy)},
		})
	}))
	t.Cleanup(server.Close)
	api, err := kube.New(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{View: View{Input: in, API: api}}
}

// Trust is proven where extension API servers are told of old and new, of what is rotated and of nothing else.
func TestAwaitClientCAs(t *testing.T) {
	all, _, old, both, next := rotating(t)
	first := fixture.Input(t)
	proxies := fixture.InStage(t, first, fixture.Beginning(t, first, []string{certs.FrontProxyCA}), certs.Begin([]string{certs.FrontProxyCA}, time.Now()))
	proxy := slices.Concat(proxies.PKI.Material[certs.FrontProxyCA].Cert, proxies.PKI.Other[certs.FrontProxyCA].Cert)
	const k, f = certs.KubernetesCA, certs.FrontProxyCA
	for name, tt := range map[string]struct {
		in                 stack.Input
		client, frontProxy []byte
		lacks              string // "" where it is proven
	}{
		"both of both":                {all, both[k], both[f], ""},
		"and others":                  {all, slices.Concat(proxy, next[k], old[k]), both[f], ""},
		"clients' old alone":          {all, old[k], both[f], "lacks one in client-ca-file"},
		"clients' new alone":          {all, next[k], both[f], "lacks one in client-ca-file"},
		"front proxies' old alone":    {all, both[k], old[f], "lacks one in requestheader-client-ca-file"},
		"neither":                     {all, nil, nil, "lacks one in client-ca-file and requestheader-client-ca-file"},
		"only front proxies' rotated": {proxies, nil, proxy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := publishing(t, tt.in, tt.client, tt.frontProxy)
			if tt.lacks != "" {
				fails(t, name, r, (*Runner).awaitClientCAs, "extension API servers are not told to trust the new CA", tt.lacks)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			if err := r.awaitClientCAs(ctx, plan.Step{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// API servers begin to speak to extension API servers as another authority's clients when they start, and so restart in
// the stage that has them do so; nothing else does, and a renewal restarts nobody.
func TestFrontProxyRotationRestartsAPIServers(t *testing.T) {
	in := fixture.Input(t)
	stored := fixture.Beginning(t, in, []string{certs.FrontProxyCA})
	before := fixture.Desired(t, fixture.InStage(t, in, stored, nil))
	check := func(r *certs.Rotation, want ...string) {
		t.Helper()
		after := fixture.Desired(t, fixture.InStage(t, in, stored, r))
		if got := plan.Restarts(before, after); !slices.Equal(got, want) {
			t.Errorf("%s: %q restart, want %q", r, got, want)
		}
		before = after
	}
	trust := certs.Begin([]string{certs.FrontProxyCA}, time.Now())
	issue := trust.Next(time.Now())
	check(trust)
	check(issue, "kube-apiserver")
	back, err := issue.Rollback()
	if err != nil {
		t.Fatal(err)
	}
	check(back, "kube-apiserver")
	check(back.Next(time.Now()))

	policy := fixture.TestPolicy
	policy.Renew = []string{"front-proxy-client@demo-cp-1"}
	pki, issued, err := certs.Ensure(t.Context(), in.PKI.Material, in.PKI.Requests, policy, time.Now())
	if err != nil || len(issued) != 1 {
		t.Fatalf("issued %v; %v", issued, err)
	}
	renewed := in
	renewed.PKI = pki
	if got := plan.Restarts(fixture.Desired(t, in), fixture.Desired(t, renewed)); len(got) > 0 {
		t.Errorf("a renewal restarts %q", got)
	}
}
