package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/plan"
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
		r := planRun{work: work{app: a, cluster: &cluster{spec: c}}, out: "next.plan"}
		if err := r.save(plan.NewPlan("demo", plan.Situation{})); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("next.plan")
		if err != nil {
			t.Fatal(err)
		}
		saved, err := plan.ReadPlan(text)
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

// TestPlanReplacesPlansOnly: `plan -o` may name the spec by a slip of the hand, and what is written is there whole or not.
func TestPlanReplacesPlansOnly(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	save := func(out string) error {
		r := planRun{work: work{app: &app{file: "cluster.yaml"}, cluster: &cluster{spec: clusterWith(spec.State{})}}, out: out}
		return r.save(plan.NewPlan("demo", plan.Situation{}))
	}
	for name, content := range map[string]string{
		"cluster.yaml": string(spec.Starter("demo", "local")), "other.json": `{"version": "1"}`, "damaged": `{"version": "slipway.dev/plan/v1", `,
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := save(name); !errors.As(err, new(*notPlanError)) {
			t.Errorf("%s: %v", name, err)
		}
		var errs bytes.Buffer // and before anything else is done
		if code := run(t.Context(), []string{"plan", "-o", name}, strings.NewReader(""), io.Discard, &errs); code != exitFailed || !strings.Contains(errs.String(), name) {
			t.Errorf("%s: exit code %d: %s", name, code, errs.String())
		}
		if left, err := os.ReadFile(name); err != nil || string(left) != content {
			t.Errorf("%s has %q, %v", name, left, err)
		}
	}
	if err := os.Symlink("cluster.yaml", "link"); err != nil {
		t.Fatal(err)
	}
	if err := save("link"); !errors.As(err, new(*notPlanError)) {
		t.Errorf("a link: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "old.plan": `{"version": "slipway.dev/plan/v0"}`} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second takes the place of the first
			err := save(name)
			info, statErr := os.Stat(name)
			if err != nil || statErr != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v, %v, %v", name, err, info, statErr)
			}
		}
	}
	if left, _ := filepath.Glob(".*"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}
