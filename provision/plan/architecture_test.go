package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestPlanOfTwoArchitectures: a new build of etcd for one of them changes only machines of that one; a
// machine that becomes one of the other gets all its programs anew.
func TestPlanOfTwoArchitectures(t *testing.T) {
	in := fixture.Mixed(fixture.Input(t))
	is := in
	is.Artifacts = fixture.Sets(in)
	a := is.Artifacts["arm64"]["etcd"]
	a.SHA256, a.Mounted = "other", "d2/bin/etcd"
	is.Artifacts["arm64"]["etcd"] = a
	var lines strings.Builder
	changes := Diff(fixture.Desired(t, is), fixture.Desired(t, in))
	Explain(changes, CausesOf(is, before(t, in), stack.Desired))
	for _, c := range changes {
		if !c.Bookkeeping() {
			lines.WriteString(c.String() + "\n")
		}
	}
	fixture.Golden(t, "architectures.golden", lines.String())
}

// TestArchitecturesAreRecorded, and an older slipway's record is of the only one that it knew.
func TestArchitecturesAreRecorded(t *testing.T) {
	in := fixture.Mixed(fixture.Input(t))
	in.Machines[1].Arch, in.Machines[0].Arch = "arm64", "amd64"
	made, err := NewApplied(in, "v1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var read Applied
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if got := read.Architectures(); len(got) != 4 || got["demo-cp-1"] != "amd64" || got["demo-cp-2"] != "arm64" || got["demo-cp-3"] != "" {
		t.Errorf("recorded are %v", got)
	}
	if got := (*Applied)(nil).Architectures(); got != nil {
		t.Errorf("of nothing it is %v", got)
	}
	older := Applied{Spec: read.Spec, Artifacts: in.Artifacts["amd64"], Slipway: "v0"}
	for _, m := range read.Machines {
		m.Arch = ""
		older.Machines = append(older.Machines, m)
	}
	if got := older.Architectures(); got["demo-cp-2"] != "amd64" || got["demo-worker-1"] != "amd64" {
		t.Errorf("of an older record it is %v", got)
	}
	base := in
	if factors, err := older.factors(in, &base); err != nil || len(factors) != 0 {
		t.Errorf("that there is a second architecture is %d factors, %v", len(factors), err)
	}
	a := older.Artifacts["etcd"]
	older.Artifacts = fixture.Sets(in)["amd64"]
	a.SHA256 = "older"
	older.Artifacts["etcd"] = a
	factors, err := older.factors(in, &base)
	if err != nil || len(factors) != 1 || base.Artifacts["amd64"]["etcd"].SHA256 != "older" || len(base.Artifacts["arm64"]) == 0 {
		t.Errorf("another bundle is %d factors, %v", len(factors), err)
	}
}
