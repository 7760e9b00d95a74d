package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/users"
	"slipway.dev/slipway/testing/fixture"
)

// sampleOverview is of a rotation of all that workloads read, in a cluster where other changes wait.
func sampleOverview(how plan.Rolling) *rotate.Overview {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.Local)
	rotation := certs.Begin([]string{certs.KubernetesCA, certs.ServiceAccounts}, began)
	o := rotate.NewOverview("demo", rotation)
	o.Begins, o.SkipUnmanaged, o.File = true, how.SkipUnmanaged, "cluster.yaml"
	o.TokenSecrets = []string{"shop/robot", "shop/scraper"}
	for at := rotation; at != nil; at = at.Next(began) {
		s := rotate.Stage{Stage: at.Stage, What: rotate.StageWords(at.Stage, at.Back), Restarts: []string{}}
		switch at.Stage {
		case certs.Trust:
			s.Restarts = []string{"kube-apiserver", "kubelet"}
		case certs.Issue:
			s.Signatures = 12
		}
		o.Stages = append(o.Stages, s)
	}
	o.OtherChanges = rotate.OtherChanges(plan.NewPlan("demo", plan.Situation{
		Machines: []spec.Machine{{Name: "demo-cp-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("192.0.2.1")}}, Alive: true, Initialized: true,
		Changes: []plan.Change{
			{Host: "demo-cp-1", Kind: plan.FileChange, Name: "/etc/crictl.yaml", Action: plan.Update, Cause: plan.Drift},
			{Host: "demo-cp-1", Kind: plan.FileChange, Name: "/var/lib/slipway/owned", Action: plan.Update, Cause: plan.Wanted},
		},
	}))
	o.Roll([]kube.Workload{
		{Kind: "Deployment", Namespace: "shop", Name: "web", Pods: make([]kube.Pod, 3), Strategy: kube.Restart},
		{Kind: "StatefulSet", Namespace: "shop", Name: "db", Pods: make([]kube.Pod, 2), Strategy: kube.Evict, Why: "strategy OnDelete", Budgets: []kube.Budget{{Name: "db"}}},
		{Kind: "Pod", Namespace: "shop", Name: "alone", Pods: make([]kube.Pod, 1), Strategy: kube.Unmanaged, Why: "nothing would replace it"},
	}, how)
	ana := users.User{Name: "ana", Groups: []string{"dev", "ops"}, Issued: began.Add(-time.Hour), NotAfter: began.AddDate(0, 3, 0)}
	ben := users.User{Name: "ben", Issued: began.Add(time.Hour), NotAfter: began.AddDate(1, 0, 0)}
	o.Kubeconfigs = []rotate.LostKubeconfig{{User: ana, DistrustsFrom: certs.Issue, RefusedFrom: certs.Drop}, {User: ben, RefusedFrom: certs.Drop}}
	return o
}

func TestRotationOverview(t *testing.T) {
	back, err := demoRotation(t).Rollback()
	if err != nil {
		t.Fatal(err)
	}
	rollback := rotate.NewOverview("demo", back)
	rollback.Stages = []rotate.Stage{{Stage: certs.Return, What: rotate.StageWords(certs.Return, true)}, {Stage: certs.Drop, What: rotate.StageWords(certs.Drop, true)}}
	again := sampleOverview(plan.Rolling{})
	again.Begins, again.OtherChanges, again.Unmanaged = false, 0, rotate.UnmanagedNodes([]string{"byhand"}, &spec.Infrastructure{}, "cluster.yaml")
	unasked := rotate.NewOverview("demo", certs.BeginExpired([]string{certs.KubernetesCA}, back.Began))
	unasked.APIError = "CAs have expired"
	for name, o := range map[string]*rotate.Overview{
		"rotate-again": again, "rotate-unasked": unasked,
		"rotate": sampleOverview(plan.Rolling{}), "rotate-leave": sampleOverview(plan.Rolling{Manual: true, SkipUnmanaged: true}), "rotate-back": rollback,
	} {
		var out strings.Builder
		if err := printOverview(&out, o); err != nil {
			t.Fatal(err)
		}
		fixture.Golden(t, name+".golden", out.String())
	}
}

// TestRotationBlocked: a budget that never allows it is found before anything is changed, unless workloads are the user's.
func TestRotationBlocked(t *testing.T) {
	o := sampleOverview(plan.Rolling{})
	o.Unmanaged = []rotate.UnmanagedNode{{Name: "byhand", Why: "why"}}
	err := o.Refuse()
	for _, want := range []string{"nothing was changed: ", "run `slipway apply` first", "\n  byhand: why", "budget shop/db never allows"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	o.Begins = false // it goes on as far as it can
	if err := o.Refuse(); err != nil {
		t.Errorf("refused to go on: %v", err)
	}
	o.Begins, o.Unmanaged = true, nil
	o.OtherChanges = 0
	err = o.Refuse()
	if err == nil || !strings.Contains(err.Error(), "could never complete, since:\n  StatefulSet shop/db: budget shop/db never allows") {
		t.Errorf("got %v", err)
	}
	o = sampleOverview(plan.Rolling{Manual: true})
	o.OtherChanges = 0
	if err := o.Refuse(); err != nil {
		t.Errorf("refused: %v", err)
	}
}

// TestRotationOverviewJSON: --dry-run --output json prints the value, and nothing else.
func TestRotationOverviewJSON(t *testing.T) {
	var out, text bytes.Buffer
	r := rotateRun{applyRun: applyRun{work: work{app: &app{stdout: &out, stderr: &text, output: "json"}}}, dryRun: true}
	if err := r.show(sampleOverview(plan.Rolling{})); err != nil || text.Len() > 0 {
		t.Fatalf("%v, %s", err, &text)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	first := func(list string) map[string]any { return got[list].([]any)[0].(map[string]any) }
	if first("stages")["stage"] != "trust" || first("workloads")["how"] != "rollout restart" || first("workloads")["kind"] != "Deployment" ||
		first("kubeconfigs")["name"] != "ana" || first("kubeconfigs")["distrustsFrom"] != "issue" || got["otherChanges"] != 1.0 || len(got["blocked"].([]any)) != 1 ||
		len(got["tokenSecrets"].([]any)) != 2 || got["strays"] == nil {
		t.Errorf("got %s", &out)
	}
}

// TestLostKubeconfigs: what was made before a rotation knows one authority, what was made during it knows both, and a
// certificate goes with the authority that has signed it.
func TestLostKubeconfigs(t *testing.T) {
	c, infra, _, _ := elsewhere(t)
	now := time.Now().Truncate(time.Second)
	s, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, c.spec, infra, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{certs.KubernetesCA}
	items, err := rotate.Cluster{Spec: c.spec, Found: infra}.NewItems(&keys.Stored{Material: s.Made}, names)
	if err != nil {
		t.Fatal(err)
	}
	before, after := s.Made[certs.KubernetesCA], items[certs.NextName(certs.KubernetesCA)]
	user := func(name string, by certs.Item, issued time.Time) users.User {
		t.Helper()
		cert, err := certs.NewProbe(by, name, now)
		if err != nil {
			t.Fatal(err)
		}
		u, err := users.NewUser(cert.Cert, by.Cert, "test", issued)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	users := users.Users{
		user("early", before, now.Add(-time.Hour)), user("during", before, now.Add(time.Minute)), user("late", after, now.Add(time.Minute)),
		{Name: "expired", NotAfter: now.Add(-time.Hour)},
		{Name: "orphaned", CA: "another", NotAfter: now.Add(time.Hour)},
	}
	stored := certs.Material{certs.KubernetesCA: before, certs.NextName(certs.KubernetesCA): after}
	forward := certs.Begin(names, now)
	back, err := forward.Rollback()
	if err != nil {
		t.Fatal(err)
	}
	root := certs.Material{
		certs.KubernetesCA:                 {Cert: append(bytes.Clone(before.Cert), s.Made[certs.EtcdCA].Cert...)},
		certs.NextName(certs.KubernetesCA): {Cert: append(bytes.Clone(after.Cert), s.Made[certs.EtcdCA].Cert...)},
	}
	for _, tt := range []struct {
		name     string
		rotation *certs.Rotation
		stored   certs.Material
		want     string
	}{
		{"forward", forward, stored, "early issue drop, during  drop"},
		{"back", back, stored, "late  drop"},
		{"below the same root", forward, root, "early  drop, during  drop"},
	} {
		var got []string
		for _, l := range rotate.LostKubeconfigs(users, tt.rotation, tt.stored, now) {
			got = append(got, strings.Join([]string{l.Name, string(l.DistrustsFrom), string(l.RefusedFrom)}, " "))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
