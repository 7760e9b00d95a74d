package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// auditLevels and the fields are those of a Policy (k8s.io/apiserver/pkg/apis/audit/v1).
var (
	auditLevels       = []string{"None", "Metadata", "Request", "RequestResponse"}
	auditPolicyFields = []string{"apiVersion", "kind", "omitManagedFields", "omitStages", "rules"}
	auditRuleFields   = []string{
		"level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs", "omitStages", "omitManagedFields",
	}
)

// validateAuditPolicy reports what would stop the API server from starting: it decodes its policy
// strictly.
func validateAuditPolicy(d *document, policy map[string]any) {
	const path = "spec.kubernetes.apiServer.auditPolicy"
	if policy == nil || d.isBad(path) {
		return
	}
	onlyFields(d, path, joinKey, policy, auditPolicyFields)
	for field, want := range map[string]string{"apiVersion": "audit.k8s.io/v1", "kind": "Policy"} {
		if have, ok := policy[field]; ok && have != want {
			d.judge(joinKey(path, field), "write "+want+", or leave it out", "%v is not what the API server expects", have)
		}
	}
	rules, ok := policy["rules"].([]any)
	if !ok || len(rules) == 0 {
		d.judge(path, "add `rules: [{level: Metadata}]`, or leave the policy out", "has no rules, and the API server needs at least one")
		return
	}
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", joinKey(path, "rules"), i)
		rule, ok := r.(map[string]any)
		if !ok {
			d.judge(at, "write a mapping such as {level: Metadata}", "is not a rule")
			continue
		}
		onlyFields(d, at, join, rule, auditRuleFields)
		if level, _ := rule["level"].(string); !slices.Contains(auditLevels, level) {
			d.judge(join(at, "level"), "write one of "+strings.Join(auditLevels, ", "), "%v is not a level", rule["level"])
		}
	}
}

func onlyFields(d *document, path string, below func(path, key string) string, object map[string]any, known []string) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, key) {
			d.judgeKey(below(path, key), "use one of "+strings.Join(known, ", "), "unknown field %q", key)
		}
	}
}
