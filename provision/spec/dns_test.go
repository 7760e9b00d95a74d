package spec

import (
	"strconv"
	"strings"
	"testing"
)

func TestExtraCorefile(t *testing.T) {
	const text = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {}}
  nodePools: [{name: cp, role: control-plane, replicas: 1}]
  network: {dns: {extraCorefile: `
	for corefile, want := range map[string]string{
		"corp.example:53 {\n  forward . 192.0.2.53\n}\n":                "",
		"a.example b.example {\n  hosts {\n    fallthrough\n  }\n}":     "",
		"corp.example { # }\n}":                                         "",
		"corp.example:53 {\n  forward . 192.0.2.53\n":                   "a { has no matching }",
		"corp.example:53 {\n}\n}\n":                                     "a } has no matching {",
		".:53 {\n  errors\n}\n":                                         ".:53 is the cluster's server block",
		"corp.example, . {\n  errors\n}\n":                              ". is the cluster's server block",
		"corp.example {\n  forward . 192.0.2.53\n}\nx.example {\n  a\n": "a { has no matching }",
	} {
		_, err := Parse("cluster.yaml", []byte(text+strconv.Quote(corefile)+"}}\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", corefile, err, want)
		}
	}
}
