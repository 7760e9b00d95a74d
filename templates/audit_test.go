package templates

import (
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// TestAuditPolicy asks the API server's own evaluator about requests as they come over the wire.
func TestAuditPolicy(t *testing.T) {
	text, err := AuditPolicy{}.Render()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := policy.LoadPolicyFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	evaluator := policy.NewPolicyRuleEvaluator(loaded)
	const pod = "/api/v1/namespaces/default/pods/web"
	alice := user.DefaultInfo{Name: "alice"}
	node := user.DefaultInfo{Name: "system:node:demo-worker-1", Groups: []string{user.NodesGroup}}
	for _, tc := range []struct {
		user        user.DefaultInfo
		method, url string
		want        auditapi.Level
	}{
		// A WebSocket begins as GET, SPDY as POST.
		{alice, "GET", pod + "/exec?command=sh&stdin=true", auditapi.LevelMetadata},
		{alice, "POST", pod + "/exec?command=sh", auditapi.LevelMetadata},
		{alice, "GET", pod + "/attach", auditapi.LevelMetadata},
		{alice, "GET", pod + "/portforward?ports=80", auditapi.LevelMetadata},
		{alice, "GET", pod + "/proxy/", auditapi.LevelMetadata},
		{alice, "GET", "/api/v1/namespaces/default/pods/https:web:8443/proxy/admin", auditapi.LevelMetadata},
		{alice, "GET", "/api/v1/namespaces/default/services/http:web:80/proxy/admin", auditapi.LevelMetadata},
		{alice, "GET", "/api/v1/nodes/demo-cp-1/proxy/pods", auditapi.LevelMetadata},
		{alice, "POST", "/api/v1/nodes/demo-cp-1/proxy/run/default/web/web?cmd=id", auditapi.LevelMetadata},
		{alice, "GET", pod + "/ephemeralcontainers", auditapi.LevelMetadata},
		{alice, "PATCH", pod + "/ephemeralcontainers", auditapi.LevelMetadata},
		{user.DefaultInfo{Name: user.APIServerUser}, "GET", "/api/v1/nodes/demo-cp-1/proxy/pods", auditapi.LevelMetadata},
		{node, "GET", pod + "/exec", auditapi.LevelMetadata},

		{alice, "GET", "/api/v1/namespaces/default/secrets/key", auditapi.LevelMetadata},
		{alice, "GET", "/api/v1/secrets?watch=true", auditapi.LevelMetadata},
		{alice, "POST", "/api/v1/namespaces/default/serviceaccounts/web/token", auditapi.LevelMetadata},
		{node, "POST", "/api/v1/namespaces/default/serviceaccounts/web/token", auditapi.LevelMetadata},
		{alice, "POST", "/api/v1/namespaces/default/pods", auditapi.LevelMetadata},
		{alice, "POST", pod + "/eviction", auditapi.LevelMetadata},
		{alice, "DELETE", "/api/v1/nodes/demo-cp-1", auditapi.LevelMetadata},
		{alice, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", auditapi.LevelMetadata},

		{alice, "GET", pod, auditapi.LevelNone},
		{alice, "GET", pod + "/log", auditapi.LevelNone},
		{alice, "GET", "/api/v1/pods?watch=true", auditapi.LevelNone},
		{alice, "GET", "/api/v1/nodes/demo-cp-1", auditapi.LevelNone},
		{alice, "GET", "/readyz", auditapi.LevelNone},
		{node, "PATCH", "/api/v1/nodes/demo-worker-1/status", auditapi.LevelNone},
		{node, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/demo-worker-1", auditapi.LevelNone},
	} {
		got := evaluator.EvaluatePolicyRule(attributes(t, &tc.user, tc.method, tc.url))
		if got.Level != tc.want {
			t.Errorf("%s %s of %s is audited at level %s, want %s", tc.method, tc.url, tc.user.Name, got.Level, tc.want)
		}
	}
}

// attributes are what the API server makes of a request.
func attributes(t *testing.T, by user.Info, method, url string) authorizer.Attributes {
	t.Helper()
	factory := request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	info, err := factory.NewRequestInfo(httptest.NewRequest(method, url, nil))
	if err != nil {
		t.Fatal(err)
	}
	return authorizer.AttributesRecord{
		User: by, Verb: info.Verb, Namespace: info.Namespace, APIGroup: info.APIGroup, APIVersion: info.APIVersion,
		Resource: info.Resource, Subresource: info.Subresource, Name: info.Name, ResourceRequest: info.IsResourceRequest, Path: info.Path,
	}
}
