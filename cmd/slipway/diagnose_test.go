package main

import (
	"strings"
	"testing"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/diagnose"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/fixture"
)

// sampleReport has a cause with symptoms, a cause without, and remarks.
func sampleReport() *diagnose.Report {
	symptom := diagnose.Finding{Rule: "api-server-down", Severity: diagnose.Symptom, Host: "demo-cp-2", What: "its API server is not ready", Evidence: "/readyz: etcd failed"}
	return &diagnose.Report{
		Cluster: "demo", Checks: 65, Hosts: 4, Passed: []string{"a machine without memory"}, Unknown: []string{"demo-cp-3: its report was cut off"},
		Findings: []diagnose.Finding{
			{
				Rule: "unit-etcd.service", Severity: diagnose.Cause, Host: "demo-cp-2", What: "etcd is stopped", Evidence: "this control plane has no data",
				More: "slipway ssh demo-cp-2 -- journalctl -u etcd", Remedy: diagnose.Remedy{Commands: []string{"slipway ssh demo-cp-2 -- systemctl start etcd"}},
				Explains: []diagnose.Finding{{Rule: "etcd-member-down", Severity: diagnose.Symptom, Host: "demo-cp-2", What: "its etcd member does not answer", Explains: []diagnose.Finding{symptom}}},
			},
			{
				Rule: "webhook", Severity: diagnose.Cause, What: "the webhook w blocks the API", Evidence: "no Service", More: "kubectl get x",
				Remedy: diagnose.Remedy{Text: "remove the webhook:", Commands: []string{"kubectl delete x", "kubectl delete y"}},
			},
		},
		Infos: []diagnose.Finding{
			{Rule: "cordoned", Host: "demo-worker-1", What: "the node is cordoned", More: "kubectl describe node", Remedy: diagnose.Remedy{Text: "if that is no longer wanted:", Commands: []string{"kubectl uncordon demo-worker-1"}}},
			{Rule: "reboot", Host: "demo-worker-1", What: "it was started 1m0s ago", Quiet: true},
		},
	}
}

func TestDiagnoseView(t *testing.T) {
	for name, all := range map[string]bool{"diagnose": false, "diagnose-verbose": true} {
		var out strings.Builder
		v := diagnoseView{out: &out, all: all}
		v.print(sampleReport())
		if v.err != nil {
			t.Fatal(v.err)
		}
		fixture.Golden(t, name+".golden", out.String())
	}
	var out strings.Builder
	v := diagnoseView{out: &out}
	v.print(&diagnose.Report{Healthy: true, Checks: 65, Hosts: 1})
	if got := out.String(); got != "No problems found (checked 65 things on 1 host).\n" {
		t.Errorf("of a cluster that is well: %q", got)
	}
}

// TestOwnSecrets: all private keys count, the bastions' too, and no certificate does.
func TestOwnSecrets(t *testing.T) {
	jump := spec.SSH{Identities: []spec.Identity{{Private: []byte("the bastion's key")}}}
	infra := &spec.Infrastructure{Machines: []spec.Machine{{SSH: spec.SSH{Identities: []spec.Identity{{Private: []byte("the machine's key")}}, Jumps: []spec.SSH{jump}}}}}
	material := certs.Material{"ca": {Cert: []byte("a certificate"), Key: []byte("the CA's key")}, certs.EncryptionKey: {Cert: []byte("key1"), Key: []byte("0123456789abcdef")}}
	have := map[string]bool{}
	for _, s := range ownSecrets(material, infra) {
		have[string(s.Reveal())] = true
	}
	for _, want := range []string{"the bastion's key", "the machine's key", "the CA's key", "0123456789abcdef", "key1:MDEyMzQ1Njc4OWFiY2RlZg=="} {
		if !have[want] {
			t.Errorf("%q is not searched for", want)
		}
	}
	if have["a certificate"] {
		t.Error("a certificate is no secret")
	}
}
