package stack_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// TestNodesHaveTheProgramsOfTheirArchitecture, at the same paths, and everything in the API is of
// both.
func TestNodesHaveTheProgramsOfTheirArchitecture(t *testing.T) {
	in := fixture.Input(t)
	all, mixed := fixture.Desired(t, in), fixture.Desired(t, fixture.Mixed(in))
	for name, host := range mixed.Hosts {
		programs := 0
		for p, f := range host.Files {
			before, ok := all.Hosts[name].Files[p]
			if !ok {
				t.Errorf("%s: %s is only there", name, p)
			}
			if !f.Program {
				continue
			}
			programs++
			arm := name == "demo-worker-1" || name == "demo-cp-2"
			if strings.HasPrefix(f.Digest, "/bundles/d1arm64/") != arm || (f.Sum != before.Sum) != arm {
				t.Errorf("%s: %s leads to %s", name, p, f.Digest)
			}
		}
		if programs < 5 {
			t.Errorf("%s has %d programs", name, programs)
		}
		same := host.Units["kubelet.service"].Inputs == all.Hosts[name].Units["kubelet.service"].Inputs
		if arm := name == "demo-worker-1" || name == "demo-cp-2"; same == arm {
			t.Errorf("%s: kubelet.service has the same inputs: %t", name, same)
		}
		if !maps.Equal(host.Images, all.Hosts[name].Images) {
			t.Errorf("%s: the images are %v", name, host.Images)
		}
	}
	before, err := stack.Manifests(in)
	if err != nil {
		t.Fatal(err)
	}
	after, err := stack.Manifests(fixture.Mixed(in))
	if err != nil || string(after) != string(before) {
		t.Errorf("the objects differ (%v)", err)
	}
}

// TestQueryFollowsTheRecord: hosts are asked for the programs of the architecture that is recorded of
// them, and for none as long as there are no artifacts.
func TestQueryFollowsTheRecord(t *testing.T) {
	in := fixture.Mixed(fixture.Input(t))
	arm := in.Artifacts["arm64"]["kubelet"]
	arm.Version = "v1-arm"
	in.Artifacts["arm64"]["kubelet"] = arm
	in.Facts, in.Machines = nil, slices.Clone(in.Machines)
	in.Machines[1].Arch = "arm64"
	query := func() stack.State {
		s, err := stack.Query(in)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	asked := query()
	for i, m := range in.Machines {
		if _, ok := asked.Hosts[m.Name].Files[arm.Path()]; ok != (i == 1) {
			t.Errorf("%s is asked for %s: %t", m.Name, arm.Path(), ok)
		}
	}
	in.Artifacts = nil
	for name, h := range query().Hosts {
		for p, f := range h.Files {
			if f.Program {
				t.Errorf("%s is asked for %s", name, p)
			}
		}
		if _, ok := h.Files[stack.OwnedFile]; !ok {
			t.Errorf("%s is not asked for %s", name, stack.OwnedFile)
		}
	}
}

func TestSets(t *testing.T) {
	amd, arm := stack.Set{"etcd": {SHA256: "1"}}, stack.Set{"etcd": {SHA256: "2"}}
	both := stack.Sets{"arm64": arm, "amd64": amd}
	for arch, want := range map[string]string{"amd64": "amd64", "arm64": "arm64", "": "amd64", "riscv64": "amd64"} {
		if got := both.Taken(arch); got != want || !both.For(arch).Same(both[want]) {
			t.Errorf("a machine that is %q gets what is for %q", arch, got)
		}
	}
	if both.For("amd64").Same(arm) {
		t.Error("two sets are the same")
	}
	if got := (stack.Sets{}).For("amd64"); len(got) != 0 {
		t.Errorf("of nothing it is %v", got)
	}
	if got := stack.Architectures(); !slices.Equal(got, []string{"amd64", "arm64"}) {
		t.Errorf("there are programs for %v", got)
	}
}
