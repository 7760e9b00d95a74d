package converge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// flanneld begins once its node has a network: whatever the API says before is waited out.
func TestAwaitPodCIDR(t *testing.T) {
	answers := []struct {
		code int
		body string
	}{
		{http.StatusServiceUnavailable, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":503}`},
		{http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`},
		{http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`},
		{http.StatusOK, `{"kind":"Node","apiVersion":"v1","metadata":{"name":"demo-cp-1"}}`},
		{http.StatusOK, `{"kind":"Node","apiVersion":"v1","metadata":{"name":"demo-cp-1"},"spec":{"podCIDR":"10.244.0.0/24"}}`},
	}
	query := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/nodes/demo-cp-1" || query == len(answers) {
			t.Errorf("asked for %s after the %d. answer", r.URL.Path, query)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answers[query].code)
		_, _ = fmt.Fprint(w, answers[query].body)
		query++
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: " + server.URL + "}}]\n" +
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := AwaitPodCIDR(t.Context(), file, "demo-cp-1"); err != nil || query != len(answers) {
		t.Errorf("after %d answers of %d: %v", query, len(answers), err)
	}
	unit := string(fixture.Desired(t, fixture.Input(t)).Hosts["demo-cp-1"].Files[stack.UnitDir+"flanneld.service"].Content)
	if !strings.Contains(unit, "ExecStartPre="+stack.StableSlipway+" wait-for-pod-cidr --kubeconfig=/etc/kubernetes/flannel.conf --node=demo-cp-1\n") {
		t.Errorf("flanneld does not wait:\n%s", unit)
	}
}
