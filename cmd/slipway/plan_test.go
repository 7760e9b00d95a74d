package main

import (
	"os"
	"path/filepath"
	"testing"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/spec"
)

// TestSavedPlanFindsState: a plan is applied from anywhere, and its spec's state is where it was when it was planned.
func TestSavedPlanFindsState(t *testing.T) {
	for file, want := range map[string]string{"specs/prod.yaml": "specs/prod.yaml", "-": "-"} {
		dir := t.TempDir()
		t.Chdir(dir)
		if want != "-" {
			want = filepath.Join(dir, want)
		}
		a := &app{file: file}
		c := clusterWith(spec.State{Directory: "../state"})
		before, _, err := a.stateOf(c)
		if err != nil {
			t.Fatal(err)
		}
		r := planRun{work: work{app: a, cluster: &cluster{spec: c}, secrets: &secrets{}, runner: &provision.Runner{}}, out: "next.plan"}
		if err := r.save(provision.NewPlan("demo", provision.Situation{})); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("next.plan")
		if err != nil {
			t.Fatal(err)
		}
		saved, err := provision.ReadPlan(text)
		if err != nil {
			t.Fatal(err)
		}
		if saved.Basis.SpecFile != want {
			t.Errorf("of %s the plan says %s", file, saved.Basis.SpecFile)
		}
		if file == "-" {
			continue
		}
		t.Chdir(t.TempDir())
		if after, _, err := (&app{file: saved.Basis.SpecFile}).stateOf(c); err != nil || after.Dir != before.Dir {
			t.Errorf("the state is in %s, and was in %s: %v", after.Dir, before.Dir, err)
		}
	}
}
