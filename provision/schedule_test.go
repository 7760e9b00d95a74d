package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

// recorder implements Actions and writes down when each began and ended.
type recorder struct {
	mu  sync.Mutex
	log []string
}

func (r *recorder) do(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, what)
	return nil
}

func (r *recorder) Install(_ context.Context, h string) error     { return r.do("install " + h) }
func (r *recorder) StartLate(_ context.Context, h string) error   { return r.do("late " + h) }
func (r *recorder) Change(_ context.Context, h string) error      { return r.do("change " + h) }
func (r *recorder) UnitsUp(_ context.Context, h string) error     { return r.do("units " + h) }
func (r *recorder) APIReady(context.Context) error                { return r.do("api") }
func (r *recorder) ServerReady(_ context.Context, h string) error { return r.do("server " + h) }
func (r *recorder) Manifests(context.Context) error               { return r.do("manifests") }
func (r *recorder) NodeReady(_ context.Context, n string) error   { return r.do("node " + n) }
func (r *recorder) Seal(_ context.Context, h string) error        { return r.do("seal " + h) }

func machines(cps, workers int) []spec.Machine {
	var all []spec.Machine
	for i := range cps {
		all = append(all, spec.Machine{Name: fmt.Sprintf("cp-%d", i+1), Role: spec.ControlPlane})
	}
	for i := range workers {
		all = append(all, spec.Machine{Name: fmt.Sprintf("w-%d", i+1), Role: spec.Worker})
	}
	return all
}

func changed(names ...string) []Change {
	var changes []Change
	for _, n := range names {
		changes = append(changes, Change{Host: n, Kind: FileChange, Name: "/x", Action: Update})
	}
	return changes
}

// run carries a schedule out with one worker, so that the order is the schedule's.
func runSchedule(t *testing.T, s Situation) []string {
	t.Helper()
	r := &recorder{}
	if err := plan.Run(t.Context(), Schedule(s, r), 1, func(plan.Event) {}); err != nil {
		t.Fatal(err)
	}
	return r.log
}

func TestScheduleLivingClusterIsRolling(t *testing.T) {
	got := runSchedule(t, Situation{Machines: machines(3, 2), Alive: true, Objects: []string{"x"}, Changes: changed("cp-1", "cp-3", "w-2"), Nodes: []NodeChange{{"w-1", "x"}}})
	want := `change cp-1
units cp-1
server cp-1
node cp-1
seal cp-1
change cp-3
units cp-3
server cp-3
node cp-3
seal cp-3
api
manifests
node w-1
change w-2
units w-2
node w-2`
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
}

func TestScheduleNothing(t *testing.T) {
	if got := runSchedule(t, Situation{Machines: machines(3, 1), Alive: true}); len(got) != 0 {
		t.Errorf("nothing to do gives %v", got)
	}
}

// Whatever changes on a living cluster, no two control planes are ever between their change and their gate at once.
func TestScheduleNeverDisturbsTwoControlPlanes(t *testing.T) {
	for mask := range 1 << 5 {
		all := machines(5, 2)
		var names []string
		for i := range 5 {
			if mask>>i&1 == 1 {
				names = append(names, all[i].Name)
			}
		}
		p := Schedule(Situation{Machines: all, Alive: true, Changes: changed(append(names, "w-1")...)}, &recorder{})
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(names); i++ {
			if !reaches(p, names[i]+": change", names[i-1]+": wait for the node") {
				t.Errorf("%v: the change of %s does not wait for the gate of %s", names, names[i], names[i-1])
			}
		}
		if len(names) > 0 && !reaches(p, "w-1: change", names[len(names)-1]+": wait for the node") {
			t.Errorf("%v: workers do not wait for the control planes", names)
		}
	}
}

// reaches says whether step depends, at any distance, on target.
func reaches(p plan.Plan, step, target string) bool {
	i := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Name == step })
	return i >= 0 && slices.ContainsFunc(p.Steps[i].Deps, func(d string) bool { return d == target || reaches(p, d, target) })
}

func TestScheduleFirstStartIsParallel(t *testing.T) {
	p := Schedule(Situation{Machines: machines(3, 1)}, &recorder{})
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	free := 0
	for _, s := range p.Steps {
		if len(s.Deps) == 0 {
			free++
		}
	}
	if free != 4 {
		t.Errorf("%d steps may start at once, want the 4 installs", free)
	}
	for _, name := range []string{"cp-1", "cp-2", "cp-3"} {
		if !reaches(p, name+": record that the cluster is up", stepAPI) {
			t.Errorf("%s is sealed before the API answered", name)
		}
	}
}
