package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// upgraded is the state of a cluster whose nodes have three other versions of etcd's component, and
// the input for it.
func upgraded(t *testing.T, keep int) (stack.Input, stack.State) {
	t.Helper()
	in := fixture.Input(t)
	in.Cluster.Spec.Bundle.KeepVersions = &keep
	old := []stack.Version{}
	for i, v := range []string{"v0.1", "v0.2", "v0.3"} {
		dir := stack.ProgramDir + "stack/" + v
		old = append(old, stack.Version{Dir: dir, Files: map[string]string{dir + "/bin/etcd": "d" + v}, Placed: time.Unix(int64(100+i), 0), Bytes: 5})
	}
	for name, f := range in.Facts {
		f.Superseded = old
		in.Facts[name] = f
	}
	observed := observedAs(t, in)
	for _, h := range observed.Hosts {
		for _, v := range old {
			for p, digest := range v.Files {
				h.Owned[p], h.Files[p] = digest, stack.File{Digest: digest}
			}
		}
	}
	return in, observed
}

// TestOldVersionsAreRemoved when there are more than are kept, and as their own steps: nothing else
// is done for it, and what is kept stays recorded.
func TestOldVersionsAreRemoved(t *testing.T) {
	for keep, want := range map[int][]string{0: {"v0.1", "v0.2", "v0.3"}, 2: {"v0.1"}, 3: nil} {
		in, observed := upgraded(t, keep)
		changes := Diff(fixture.Desired(t, in), observed)
		steps := Schedule(Situation{Machines: in.Machines, Alive: true, Changes: changes})
		if len(changes) != len(want)*len(in.Machines) {
			t.Errorf("with %d kept: %v", keep, changes)
		}
		var names []string
		for _, s := range steps {
			if s.Verb != RemoveVersions || len(s.Deps) > 0 || s.Gate() || !s.Writes() {
				t.Errorf("with %d kept there is the step %+v", keep, s)
			}
			for _, c := range s.Changes {
				if s.Host == in.Machines[0].Name {
					names = append(names, strings.TrimPrefix(c.Name, stack.ProgramDir+"stack/"))
				}
				if c.Action != Delete || c.Frees != 5 || !strings.Contains(c.Reason, "spec.bundle.keepVersions is") {
					t.Errorf("got %+v", c)
				}
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("with %d kept, removed are %q, want %q", keep, names, want)
		}
	}
}

// TestOldVersionsAreRemovedLast: when the host and the cluster work with the present ones.
func TestOldVersionsAreRemovedLast(t *testing.T) {
	in, observed := upgraded(t, 0)
	for name, h := range observed.Hosts {
		u := h.Units[stack.KubeletService]
		u.Inputs = "old"
		h.Units[stack.KubeletService] = u
		observed.Hosts[name] = h
	}
	s := Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, in), observed)}
	usable := ""
	removals := 0
	for _, step := range Schedule(s) {
		if step.Verb == AwaitUsable {
			usable = step.Name
		}
		if step.Verb == RemoveVersions {
			removals++
			if usable == "" || !slices.Equal(step.Deps, []string{usable}) {
				t.Errorf("%s is after %q", step.Name, step.Deps)
			}
		}
	}
	if removals != len(in.Machines) {
		t.Errorf("%d removals", removals)
	}
	last := ""
	only, _, err := s.Only([]string{in.Machines[0].Name})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range Schedule(only) { // which does not look at the whole cluster
		if step.Verb == RemoveVersions && (last == "" || !slices.Equal(step.Deps, []string{last})) {
			t.Errorf("%s is after %q, want %q", step.Name, step.Deps, last)
		}
		last = step.Name
	}
}
