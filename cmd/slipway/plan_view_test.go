package main

import (
	"strings"
	"testing"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/testing/fixture"
)

// samplePlan has what people meet: the same change on several hosts, drift, a secret, many files, an object.
func samplePlan() *plan.Plan {
	var changes []plan.Change
	for _, host := range []string{"demo-cp-1", "demo-cp-2", "demo-cp-3"} {
		changes = append(changes,
			plan.Change{
				Host: host, Kind: plan.UnitChange, Name: "kube-apiserver.service", Action: plan.Restart, Cause: plan.Wanted,
				Reason: "spec.kubernetes.apiServer.extraArgs[v] changed",
			},
			plan.Change{
				Host: host, Kind: plan.FileChange, Name: "/var/lib/slipway/owned", Action: plan.Update, Cause: plan.Wanted, Reason: "follows",
			})
	}
	for i := range 7 {
		changes = append(changes, plan.Change{
			Host: "demo-worker-1", Kind: plan.FileChange, Name: "/etc/new/" + strings.Repeat("x", i+1), Action: plan.Create,
			Cause: plan.Wanted, Reason: "missing",
		})
	}
	changes = append(changes,
		plan.Change{
			Host: "demo-worker-1", Kind: plan.FileChange, Name: "/etc/kubernetes/pki/kube-proxy.key", Action: plan.Update, Secret: true,
			From: strings.Repeat("ab", 32), To: strings.Repeat("cd", 32), Mode: "0600", Cause: plan.Drift,
			Reason: "edited on the host at 2026-11-21 12:03:00",
		},
		plan.Change{
			Kind: plan.ObjectChange, Name: "Deployment kube-system/coredns", Action: plan.Update, Cause: plan.Drift,
			Reason: "changed by kubectl-edit at 2026-11-21 12:04:00",
		})
	return &plan.Plan{
		Cluster: "demo", Alive: true, Changes: changes,
		Steps: []plan.Step{
			{Name: "demo-cp-1: apply changes", Host: "demo-cp-1", Verb: plan.Apply},
			{Name: "demo-cp-1: wait for the units", Host: "demo-cp-1", Verb: plan.AwaitUnits, Deps: []string{"demo-cp-1: apply changes"}},
		},
		Disruptions: []plan.Disruption{{
			What: "kube-apiserver restarts", Hosts: []string{"demo-cp-1", "demo-cp-2", "demo-cp-3"}, How: "one at a time",
			Effect: "clients continue with the other API servers; pods continue to run",
		}},
		LeftOut: []plan.Change{{Host: "demo-worker-2"}, {}},
	}
}

// sampleResources are what a provider would create and change besides machines.
var sampleResources = []spec.ResourceChange{
	{Kind: "network", Name: "slipway-demo", Reason: "does not exist"},
	{Kind: "balancer", Name: "demo-balancer", Exists: true, Reason: "is exited (137) 2 minutes ago"},
}

func TestPlanView(t *testing.T) {
	machines := &plan.Plan{Cluster: "demo", Resources: sampleResources[:1], Machines: []plan.MachineChange{
		{Name: "demo-cp-1", Action: plan.Create, Reason: "does not exist"},
		{Name: "demo-cp-2", Action: plan.Update, Reason: "is exited, and has to be started"},
	}}
	copied := samplePlan()
	for i := range 8 {
		copied.Changes = append(copied.Changes, plan.Change{
			Host: "demo-worker-1", Kind: plan.ProgramChange, Name: "/opt/slipway/x/v1/bin/" + strings.Repeat("x", i+1), Action: plan.Create,
			Cause: plan.Wanted, Reason: "missing", Copy: 50<<20 + 1,
		})
	}
	copied.Changes = append(copied.Changes, plan.Change{
		Host: "demo-worker-2", Kind: plan.ProgramChange, Name: "/opt/slipway/cni/v1/bin/bridge", Action: plan.Update, Cause: plan.Wanted,
		Reason: "the bundle changed", Copy: 1,
	}, plan.Change{
		Host: "demo-worker-2", Kind: plan.VersionChange, Name: "/opt/slipway/cni/v0", Action: plan.Delete, Cause: plan.Wanted,
		Reason: "an old version that nothing uses: spec.bundle.keepVersions is 2", Frees: 30 << 20,
	})
	unasked := &plan.Plan{Cluster: "demo", APIError: "no API server runs", Steps: []plan.Step{{Name: "cluster: wait for the API"}}}
	for name, v := range map[string]planView{
		"plan-resources": {plan: &plan.Plan{Cluster: "demo", Alive: true, Resources: sampleResources}},
		"plan-short":     {plan: samplePlan()},
		"plan-all":       {plan: samplePlan(), all: true, steps: true},
		"plan-diff":      {plan: samplePlan(), all: true, diffs: converge.TextDiffs{}},
		"plan-copied":    {plan: copied},
		"plan-empty":     {plan: &plan.Plan{Cluster: "demo", Alive: true}},
		"plan-machines":  {plan: machines},
		"plan-unasked":   {plan: unasked},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			v.out, v.file = &out, "cluster.yaml"
			if v.print(); v.err != nil {
				t.Fatal(v.err)
			}
			fixture.Golden(t, name+".golden", out.String())
			if strings.Contains(out.String(), strings.Repeat("ab", 8)) {
				t.Error("more of a secret's digest is shown than is needed")
			}
		})
	}
}
