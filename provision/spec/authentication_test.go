package spec

import (
	"strings"
	"testing"
)

const anAuthenticator = `
kubernetes:
    version: v1.36.3
    apiServer:
      authentication:
        jwt:
        - issuer:
            url: https://login.example.com
            audiences: [kubernetes]
          claimMappings:
            username: {claim: email, prefix: "oidc:"}
            groups: {expression: 'claims.roles.split(",")'}
          claimValidationRules:
          - {expression: 'claims.hd == "example.com"', message: not one of us}
          userValidationRules:
          - {expression: '!user.username.startsWith("system:")', message: reserved}
`

func TestAuthentication(t *testing.T) {
	const kubernetes = "kubernetes: {version: v1.36.3}"
	whole := strings.Replace(minimal, kubernetes, strings.TrimSpace(anAuthenticator), 1)
	c := mustParse(t, whole)
	if jwt := c.Spec.Kubernetes.APIServer.Authentication.JWT; len(jwt) != 1 || jwt[0]["issuer"] == nil {
		t.Errorf("read was %v", jwt)
	}
	const at = "spec.kubernetes.apiServer.authentication.jwt"
	for name, tc := range map[string]struct{ old, with, field, message, remedy string }{
		"plain HTTP":                  {"https://login", "«http://login", at + "[0][issuer].url", "must be https", "JWTAuthenticator"},
		"no audience":                 {"[kubernetes]", "«[]", at + "[0][issuer].audiences", "at least one", "add it"},
		"a mistyped field":            {"audiences:", "«audience:", at + "[0][issuer].audience", "unknown field", "JWTAuthenticator"},
		"a field of the item":         {"claimMappings:", "«claimMapping:", at + "[0][claimMapping]", "unknown field", "JWTAuthenticator"},
		"a string for a list":         {"[kubernetes]", "«kubernetes", at + "[0][issuer].audiences", "is a string", "of that type"},
		"an expression":               {`'claims.roles.split(",")'`, `«claims.roles.split(`, at + "[0][claimMappings].groups.expression", "compilation failed", "JWTAuthenticator"},
		"an expression of a rule":     {`'claims.hd == "example.com"'`, `«claims.hd`, at + "[0][claimValidationRules][0].expression", "must evaluate to bool", "JWTAuthenticator"},
		"a claim without a prefix":    {`{claim: email, prefix: "oidc:"}`, `«{claim: email}`, at + "[0][claimMappings].username.prefix", "required", "add it"},
		"the issuer of the cluster":   {"https://login.example.com", "«https://kubernetes.default.svc.cluster.local", at + "[0][issuer].url", "must not overlap", "JWTAuthenticator"},
		"a certificate that is none":  {"audiences:", "certificateAuthority: «none\n            audiences:", at + "[0][issuer].certificateAuthority", "data does not contain any valid", "JWTAuthenticator"},
		"a private key":               {"audiences:", "certificateAuthority: «\"-----BEGIN PRIVATE KEY-----\"\n            audiences:", at + "[0][issuer].certificateAuthority", "private key", "remove the key"},
		"an egress that is not there": {"audiences:", "egressSelectorType: «cluster\n            audiences:", at + "[0][issuer].egressSelectorType", "egress-selector-config-file", "remove it"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(whole, tc.old, tc.with, 1)
			data, places := unmark(t, changed)
			if len(places) != 1 {
				t.Fatalf("%d marks", len(places))
			}
			errs := mistakes(t, data)
			for _, e := range errs {
				if e.Field == tc.field && strings.Contains(e.Remedy, tc.remedy) {
					checkDiagnostic(t, e, data, places[0], tc.field, tc.message, tc.remedy)
					return
				}
			}
			t.Errorf("want a mistake at %s, got %v", tc.field, errs)
		})
	}
	second := "        - {issuer: {url: https://login.example.com, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: \"\"}}}\n"
	errs := mistakes(t, strings.Replace(whole, "message: reserved}\n", "message: reserved}\n"+second, 1))
	if len(errs) != 1 || errs[0].Field != at+"[1][issuer].url" || errs[0].Remedy != "list every issuer once" {
		t.Errorf("an issuer that is there twice gives %v", errs)
	}
}

// TestNoOIDCFlags: an API server with an authentication file does not start with any of them.
func TestNoOIDCFlags(t *testing.T) {
	for _, flag := range []string{
		"oidc-issuer-url", "oidc-client-id", "oidc-ca-file", "oidc-username-claim", "oidc-username-prefix", "oidc-groups-claim",
		"oidc-groups-prefix", "oidc-signing-algs", "oidc-required-claim",
	} {
		errs := mistakes(t, strings.Replace(minimal, "v1.36.3}", "v1.36.3, apiServer: {extraArgs: {"+flag+": a}}}", 1))
		if len(errs) != 1 || !strings.Contains(errs[0].Remedy, "spec.kubernetes.apiServer.authentication.jwt") {
			t.Errorf("%s gives %v", flag, errs)
		}
	}
}
