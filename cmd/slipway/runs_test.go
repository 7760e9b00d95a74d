package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// TestRunsWhileOneGoesOn reads the journal while a progress feeds it: the run is running as long as the lock is held.
func TestRunsWhileOneGoesOn(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SLIPWAY_STATE_DIR", dir)
	file := filepath.Join(dir, "cluster.yaml")
	if err := os.WriteFile(file, spec.Starter("demo", "local"), 0o600); err != nil {
		t.Fatal(err)
	}
	runs := func(args ...string) string {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"runs", "-f", file}, args...), strings.NewReader(""), &out, &errs); code != 0 {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		return out.String()
	}
	store, err := state.Open(t.Context(), state.Options{Dir: filepath.Join(dir, "demo")})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := journal.Start(t.Context(), store, journal.Run{Cluster: "demo", Command: "apply"})
	if err != nil {
		t.Fatal(err)
	}
	if out := runs(); !strings.Contains(out, " running ") {
		t.Errorf("while it runs:\n%s", out)
	}
	p, c := newTestProgress(&bytes.Buffer{}, &bytes.Buffer{}, false)
	p.recorder = recorder
	c.at = time.Now()
	failure := story(p, c, func(string) {})
	if err := errors.Join(recorder.End(t.Context(), failure), store.Close()); err != nil {
		t.Fatal(err)
	}
	out := runs("show")
	for _, want := range []string{
		"failed after ", "machines ", "converge ", "5 steps, 3 done, 1 failed, 1 not begun", "✓ fetch images", "✗ start etcd",
		"– start kubelet", "✗ failed: demo-cp-2: start etcd", "    second line",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the timeline lacks %q:\n%s", want, out)
		}
	}
	if out := runs("show", "--output", "json"); !strings.Contains(out, `"text": "waiting for its peers"`) {
		t.Errorf("the note of a host is not with its step:\n%s", out)
	}
}

// TestRecordPlan has every step of a plan with its kind and its changes, and the plan itself as JSON.
func TestRecordPlan(t *testing.T) {
	p := &plan.Plan{Version: plan.PlanVersion, Cluster: "demo", Steps: []plan.Step{
		{Name: "demo-cp-1: apply changes", Host: "demo-cp-1", Verb: plan.Apply, Changes: []plan.Change{
			{Host: "demo-cp-1", Kind: plan.FileChange, Name: "/a", Action: plan.Create, Reason: "missing"},
			{Host: "demo-cp-1", Kind: plan.UnitChange, Name: "b", Action: plan.Restart, Reason: "runs with other inputs"},
		}},
		{Name: "demo-cp-1: wait for the units", Host: "demo-cp-1", Verb: plan.AwaitUnits, Deps: []string{"demo-cp-1: apply changes"}},
		{Name: "cluster: apply manifests", Verb: plan.ApplyManifests, Changes: []plan.Change{
			{Kind: plan.ObjectChange, Name: "Deployment kube-system/coredns", Action: plan.Update, Reason: "differs"},
		}},
	}}
	store, err := state.Open(t.Context(), state.Options{Dir: filepath.Join(t.TempDir(), "demo")})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := journal.Start(t.Context(), store, journal.Run{Cluster: "demo", Command: "apply"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(recordPlan(recorder, p), recorder.End(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	recorded, err := journal.Get(t.Context(), store, 1, true)
	if err = errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range recorded.Steps {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", step.Kind, step.Name, strings.Join(step.Changes, "; "))))
	}
	want := `change demo-cp-1: apply changes + file /a (missing); ^ unit b (runs with other inputs)
gate demo-cp-1: wait for the units
cluster cluster: apply manifests ~ object Deployment kube-system/coredns (differs)`
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.HasPrefix(string(recorded.Plan), `{"version":"slipway.dev/plan/v1","cluster":"demo"`) {
		t.Errorf("the plan is %.80s", recorded.Plan)
	}
}
