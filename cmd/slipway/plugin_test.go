package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/testing/fixture"
)

// TestSavedPlanCarriesThePluginChange: what the plan was allowed, applying it is, and nothing else.
func TestSavedPlanCarriesThePluginChange(t *testing.T) {
	c, _, _ := fixture.OneMachine(t)
	for _, allowed := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "next.plan")
		a := &app{file: "-", stderr: io.Discard}
		p := planRun{out: file, work: work{
			app: a, cluster: &cluster{spec: c}, Session: provision.Session{Wish: provision.Wish{AllowPluginChange: allowed}},
		}}
		if err := p.save(plan.NewPlan("demo", plan.Situation{})); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SLIPWAY_CACHE_DIR", "/dev/null/nowhere") // no further than that
		r := applyRun{work: work{app: a}}
		if err := r.applySaved(t.Context(), file, false); err == nil || r.AllowPluginChange != allowed {
			t.Errorf("planned with %t, applied with %t, %v", allowed, r.AllowPluginChange, err)
		}
	}
}

// TestInterruptedPluginChange goes on with the flag: without it the next apply would be refused.
func TestInterruptedPluginChange(t *testing.T) {
	for allowed, want := range map[bool]string{false: "`slipway apply -f a.yaml` continues", true: "`slipway apply -f a.yaml --allow-plugin-change` continues"} {
		r := applyRun{work: work{app: &app{file: "a.yaml"}, Session: provision.Session{Wish: provision.Wish{AllowPluginChange: allowed}}}}
		if err := r.interrupted("apply", nil); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
