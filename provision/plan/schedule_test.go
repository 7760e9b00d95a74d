package plan

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func changed(names ...string) []Change {
	var changes []Change
	for _, n := range names {
		c := Change{Host: n, Kind: FileChange, Name: "/x", Action: Update}
		if strings.HasPrefix(n, "cp-") {
			c = Change{Host: n, Kind: UnitChange, Name: stack.EtcdService, Action: Restart}
		}
		changes = append(changes, c)
	}
	return changes
}

// listed writes a schedule as a person would check it: a line a step, with what it waits for.
func listed(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.Name)
		if len(s.Deps) > 0 {
			b.WriteString(" <- " + strings.Join(s.Deps, ", "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestScheduleOfALivingClusterIsRolling(t *testing.T) {
	changes := append(changed("cp-1", "cp-3", "w-2"),
		Change{Host: "w-1", Kind: LabelChange, Name: "tier", Action: Create},
		Change{Host: "cp-3", Kind: MemberChange, Name: "cp-3", Action: Update},
		Change{Kind: ObjectChange, Name: "Deployment kube-system/coredns", Action: Update})
	const want = `cp-3: check that etcd keeps its quorum
cp-3: apply changes <- cp-3: check that etcd keeps its quorum
cp-3: wait for the units <- cp-3: apply changes
cp-3: wait for etcd <- cp-3: wait for the units
cp-3: wait for the node <- cp-3: wait for etcd
cp-1: check that etcd keeps its quorum <- cp-3: wait for the node
cp-1: apply changes <- cp-1: check that etcd keeps its quorum
cp-1: wait for the units <- cp-1: apply changes
cp-1: wait for etcd <- cp-1: wait for the units
cp-1: wait for the node <- cp-1: wait for etcd
cluster: apply manifests <- cp-1: wait for the node
w-1: wait for the node <- cp-1: wait for the node
w-2: apply changes <- w-1: wait for the node
w-2: wait for the units <- w-2: apply changes
w-2: wait for the node <- w-2: wait for the units
cluster: wait until it can be used <- cluster: apply manifests, w-2: wait for the node
`
	if got := listed(Schedule(Situation{Machines: fixture.Machines(3, 2), Alive: true, Changes: changes})); got != want {
		t.Errorf("got:\n%s", got)
	}
}

// TestScheduleOfFilesThatNothingReads: only where all changes are of such files, and all else is known to be as it should, there are
// no batches and no gates; the control planes come first all the same.
func TestScheduleOfFilesThatNothingReads(t *testing.T) {
	file := func(host, path string, action Action) Change {
		return Change{Host: host, Kind: FileChange, Name: path, Action: action}
	}
	const crictl = "/etc/crictl.yaml"
	everywhere := []Change{
		file("cp-1", crictl, Update), file("w-1", crictl, Update), file("w-2", crictl, Create), file("w-3", crictl, Update), file("w-3", stack.OwnedFile, Update),
	}
	control := `cp-1: apply changes
cp-1: wait for the units <- cp-1: apply changes
cp-1: wait for etcd <- cp-1: wait for the units
cp-1: wait for the node <- cp-1: wait for etcd
`
	want := control + `w-1: apply changes <- cp-1: wait for the node
w-2: apply changes <- cp-1: wait for the node
w-3: apply changes <- cp-1: wait for the node
cluster: wait until it can be used <- w-1: apply changes, w-2: apply changes, w-3: apply changes
`
	if got := listed(Schedule(Situation{Machines: fixture.Machines(1, 3), Alive: true, Changes: everywhere})); got != want {
		t.Errorf("got:\n%s", got)
	}
	for name, more := range map[string][]Change{
		"another file":  {file("w-2", stack.CAFile, Update)},
		"a removal":     {file("w-2", crictl, Delete)},
		"a program":     {{Host: "w-2", Kind: ProgramChange, Name: crictl, Action: Update}},
		"a unit":        {{Host: "w-2", Kind: UnitChange, Name: stack.KubeletService, Action: Restart}},
		"one to come":   {{Host: "w-2", Kind: UnitChange, Name: stack.KubeletService, Action: Await}},
		"its node":      {{Host: "w-2", Kind: NodeChange, Name: "w-2", Action: Update}},
		"a label of it": {{Host: "w-2", Kind: LabelChange, Name: "tier", Action: Create}},
	} {
		changes := append([]Change{file("w-1", crictl, Update), file("w-2", crictl, Update)}, more...)
		got := listed(Schedule(Situation{Machines: fixture.Machines(1, 2), Alive: true, Changes: changes}))
		if !strings.Contains(got, "w-1: apply changes\n") || strings.Contains(got, "w-1: wait") || !strings.Contains(got, "w-2: wait for the node") {
			t.Errorf("with %s, got:\n%s", name, got)
		}
	}
	got := listed(Schedule(Situation{Machines: fixture.Machines(1, 2), Alive: true, APIError: "no answer", Changes: everywhere[1:3]}))
	if !strings.Contains(got, "w-1: wait for the node") || !strings.Contains(got, "w-2: wait for the node") {
		t.Errorf("while the nodes are unknown, got:\n%s", got)
	}
}

func TestScheduleOfWorkersInBatches(t *testing.T) {
	all := fixture.Machines(1, 6)
	changes := append(changed("w-1", "w-2", "w-3", "w-4", "w-5", "w-6"),
		Change{Host: "w-4", Kind: NodeChange, Name: "w-4", Action: Update, Reason: "NotReady"},
		Change{Host: "w-6", Kind: NodeChange, Name: "w-6", Action: Create, Reason: "is not registered"},
		Change{Host: "w-6", Kind: UnitChange, Name: stack.KubeletService, Action: Create})
	s := Situation{Machines: all, Alive: true, Changes: changes, MaxUnavailable: map[string]int{"w": 2}, Down: map[string]bool{"w-4": true, "w-6": true}}
	steps := Schedule(s)
	after := map[string][]string{}
	for _, s := range steps {
		if s.Verb == Apply {
			after[s.Host] = s.Deps
		}
	}
	end := func(hosts ...string) []string {
		var names []string
		for _, h := range hosts {
			names = append(names, h+": wait for the node")
		}
		return names
	}
	// w-6 joins, and disturbs nobody; w-4 is not Ready, and comes first.
	for host, want := range map[string][]string{
		"w-6": nil, "w-4": nil, "w-1": nil, "w-2": end("w-4", "w-1"), "w-3": end("w-4", "w-1"), "w-5": end("w-2", "w-3"),
	} {
		if !slices.Equal(after[host], want) {
			t.Errorf("%s waits for %q, want %q", host, after[host], want)
		}
	}
}

// Workers that are not Ready go all at once, and one that never becomes so keeps none of them from being repaired; those that
// are Ready wait until all of these are, in this pool and the next.
func TestScheduleOfWorkersThatAreDown(t *testing.T) {
	all := append(fixture.Machines(1, 5), spec.Machine{Name: "x-1", Pool: "x", Role: spec.Worker}, spec.Machine{Name: "x-2", Pool: "x", Role: spec.Worker})
	s := Situation{Machines: all, Alive: true, Changes: changed("w-1", "w-2", "w-3", "w-4", "w-5", "x-1", "x-2"), MaxUnavailable: map[string]int{"w": 2}}
	s.Down = map[string]bool{"w-2": true, "w-3": true, "w-5": true, "x-2": true}
	node := func(hosts ...string) []string {
		var names []string
		for _, h := range hosts {
			names = append(names, h+": wait for the node")
		}
		return names
	}
	want := map[string][]string{
		"w-2": nil, "w-3": nil, "w-5": nil, "x-2": nil,
		"w-1": node("w-2", "w-3", "w-5"), "w-4": node("w-2", "w-3", "w-5"), "x-1": node("w-1", "w-4", "x-2"),
	}
	for _, step := range Schedule(s) {
		if step.Verb == Apply && !slices.Equal(step.Deps, want[step.Host]) {
			t.Errorf("%s waits for %q, want %q", step.Host, step.Deps, want[step.Host])
		}
	}
}

// What has expired is renewed everywhere at once, and every endpoint has to show it; etcd, which nobody could ask, too.
func TestScheduleOfAnExpiredCluster(t *testing.T) {
	s := Situation{Machines: fixture.Machines(1, 2), Initialized: true, APIError: "certificate has expired"}
	for host, path := range map[string]string{"cp-1": stack.PKIDir + "/etcd/server.crt", "w-1": "/var/lib/kubelet/pki/kubelet.crt", "w-2": "/var/lib/kubelet/pki/kubelet.crt"} {
		s.Changes = append(s.Changes, Change{Host: host, Kind: FileChange, Name: path, Action: Update})
	}
	const want = `cluster: check that it is down
cp-1: install <- cluster: check that it is down
cluster: wait for the API <- cp-1: install
cluster: apply manifests <- cluster: wait for the API
cp-1: wait for etcd <- cluster: wait for the API
cp-1: wait for the units <- cp-1: install
cp-1: wait until its certificates are served <- cp-1: wait for the units
cp-1: wait for the node <- cluster: wait for the API
w-1: apply changes <- cluster: wait for the API
w-1: wait for the units <- w-1: apply changes
w-1: wait until its certificates are served <- w-1: wait for the units
w-1: wait for the node <- w-1: wait until its certificates are served
w-2: apply changes <- cluster: wait for the API
w-2: wait for the units <- w-2: apply changes
w-2: wait until its certificates are served <- w-2: wait for the units
w-2: wait for the node <- w-2: wait until its certificates are served
cluster: wait until it can be used <- cluster: apply manifests, cp-1: wait for etcd, cp-1: wait until its certificates are served, cp-1: wait for the node, w-1: wait for the node, w-2: wait for the node
`
	if got := listed(Schedule(s)); got != want {
		t.Errorf("got:\n%s", got)
	}
	s.APIError, s.Down = "", map[string]bool{"w-2": true} // the API answers over connections of before, and w-1 is Ready
	for _, step := range Schedule(s) {
		if step.Host == "w-1" && step.Verb == Apply && !slices.Equal(step.Deps, []string{"w-2: wait for the node"}) {
			t.Errorf("w-1, which is Ready, waits for %q", step.Deps)
		}
	}
}

// Where the cluster has been up and lost its quorum, pods go on running on workers: these wait, and come in batches.
func TestScheduleSparesWorkersOfAClusterThatIsDown(t *testing.T) {
	s := Situation{Machines: fixture.Machines(1, 2), Initialized: true, APIError: "no API server runs", Changes: changed("cp-1", "w-1", "w-2")}
	const want = `cluster: check that it is down
cp-1: install <- cluster: check that it is down
cluster: wait for the API <- cp-1: install
cluster: apply manifests <- cluster: wait for the API
cp-1: wait for the units <- cp-1: install
cp-1: wait for the node <- cluster: wait for the API
w-1: apply changes <- cluster: wait for the API
w-1: wait for the units <- w-1: apply changes
w-1: wait for the node <- w-1: wait for the units
w-2: apply changes <- w-1: wait for the node
w-2: wait for the units <- w-2: apply changes
w-2: wait for the node <- w-2: wait for the units
cluster: wait until it can be used <- cluster: apply manifests, cp-1: wait for the units, cp-1: wait for the node, w-2: wait for the node
`
	if got := listed(Schedule(s)); got != want {
		t.Errorf("got:\n%s", got)
	}
}

// --only touches nothing else, also where the API cannot be asked what differs there.
func TestScheduleOfSomeHosts(t *testing.T) {
	s := Situation{Machines: fixture.Machines(3, 2), Alive: true, APIError: "no answer", Changes: changed("cp-1", "w-1", "w-2")}
	some, _, err := s.Only([]string{"w-1"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `cluster: wait for the API
w-1: apply changes <- cluster: wait for the API
w-1: wait for the units <- w-1: apply changes
w-1: wait for the node <- w-1: wait for the units
`
	if got := listed(Schedule(some)); got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestScheduleOfNothing(t *testing.T) {
	for _, alive := range []bool{true, false} {
		if got := Schedule(Situation{Machines: fixture.Machines(3, 1), Alive: alive}); len(got) != 0 {
			t.Errorf("nothing to do gives %v", got)
		}
	}
}

func TestScheduleOfAFirstStartIsParallel(t *testing.T) {
	in := fixture.Input(t)
	s := Situation{Machines: in.Machines, Changes: Diff(fixture.Desired(t, in), stack.State{}), APIError: "no API server runs"}
	const want = `demo-cp-1: install
demo-cp-2: install
demo-cp-3: install
demo-worker-1: install
cluster: wait for the API <- demo-cp-1: install, demo-cp-2: install, demo-cp-3: install
cluster: apply manifests <- cluster: wait for the API
demo-cp-1: wait for etcd <- cluster: wait for the API
demo-cp-1: record that the cluster is up <- demo-cp-1: wait for etcd
demo-cp-1: start units that need the API <- cluster: apply manifests
demo-cp-1: wait for the units <- demo-cp-1: start units that need the API
demo-cp-1: wait for the node <- cluster: wait for the API
`
	if got := listed(Schedule(s)); !strings.HasPrefix(got, want) {
		t.Errorf("got:\n%s", got)
	}
	if got := listed(Schedule(s)); !strings.Contains(got, "demo-worker-1: wait for the node <- cluster: wait for the API, demo-worker-1: install\n") {
		t.Errorf("a worker's node is waited for before it is installed:\n%s", got)
	}
}

// What was killed after the installs goes on with the rest, and installs nothing again.
// The state knows that the cluster is up as soon as it answers, and before anything in it can be used. A run that is cut
// short right then leaves a living cluster whose pods' network may do nothing yet, and every gate waits for it.
func TestScheduleRecordsFirstAndGivesRightsFirst(t *testing.T) {
	changes := append(changed("cp-1", "cp-2", "cp-3"), Change{Kind: ObjectChange, Name: "ClusterRole flannel", Action: Create})
	first := Schedule(Situation{Machines: fixture.Machines(3, 0), Unrecorded: true, APIError: "no API server runs", Changes: changes})
	for _, s := range first {
		if s.Verb == RecordUp && !slices.Equal(s.Deps, []string{"cluster: wait for the API"}) {
			t.Errorf("it is recorded after %q", s.Deps)
		}
	}
	living := Schedule(Situation{Machines: fixture.Machines(3, 0), Alive: true, Changes: changes})
	before := closure(living)
	for _, s := range living {
		if s.Verb == EnsureNode && !before[s.Name]["cluster: apply manifests"] {
			t.Errorf("%q does not wait for the manifests:\n%s", s.Name, listed(living))
		}
	}
}

func TestScheduleGoesOnWithAFirstStart(t *testing.T) {
	s := Situation{Machines: fixture.Machines(1, 1), APIError: "no API server answers", Changes: []Change{
		{Host: "cp-1", Kind: FileChange, Name: stack.InitializedFile, Action: Create},
		{Host: "cp-1", Kind: UnitChange, Name: "kube-apiserver.service", Action: Await},
		{Host: "cp-1", Kind: UnitChange, Name: "kube-proxy.service", Action: Update},
	}}
	const want = `cluster: wait for the API
cluster: apply manifests <- cluster: wait for the API
cp-1: wait for etcd <- cluster: wait for the API
cp-1: record that the cluster is up <- cp-1: wait for etcd
cp-1: start units that need the API <- cluster: apply manifests
cp-1: wait for the units <- cp-1: start units that need the API
cp-1: wait for the node <- cluster: wait for the API
w-1: wait for the node <- cluster: wait for the API
cluster: wait until it can be used <- cp-1: record that the cluster is up, cp-1: wait for the units, cp-1: wait for the node, w-1: wait for the node
`
	if got := listed(Schedule(s)); got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestOnly(t *testing.T) {
	s := Situation{Machines: fixture.Machines(3, 2), Alive: true, Changes: append(changed("cp-1", "w-1", "w-2"), Change{Kind: ObjectChange, Name: "x"})}
	some, leftOut, err := s.Only([]string{"w-1"})
	if err != nil || len(some.Changes) != 1 || some.Changes[0].Host != "w-1" || len(leftOut) != 3 {
		t.Errorf("left are %v, left out are %v, error %v", some.Changes, leftOut, err)
	}
	if _, _, err := s.Only([]string{"w-9"}); err == nil || !strings.Contains(err.Error(), "no such node; it has cp-1, cp-2") {
		t.Errorf("an unknown node: %v", err)
	}
	enough := func(s Situation, only ...string) error {
		t.Helper()
		some, _, err := s.Only(only)
		if err != nil {
			t.Fatal(err)
		}
		return some.Enough()
	}
	s.Alive = false
	if err := enough(s, "cp-1", "cp-2"); err == nil || !strings.Contains(err.Error(), "leaves out cp-3") {
		t.Errorf("a first start without a control plane: %v", err)
	}
	if err := enough(s, "cp-1", "cp-2", "cp-3"); err != nil {
		t.Errorf("a first start without workers: %v", err)
	}
	s.Initialized, s.Unobserved = true, []string{"w-2", "cp-3"}
	some, leftOut, err = s.Only([]string{"cp-1", "cp-2"})
	if err != nil || some.Enough() != nil || len(some.Changes) != 1 || len(leftOut) != 2 { // w-1 and the object: nobody knows what w-2 needs
		t.Errorf("one that is down, with most control planes: %v, left out are %v, error %v", some.Changes, leftOut, err)
	}
	if err := enough(s, "cp-1", "w-1"); err == nil || !strings.Contains(err.Error(), "leaves out cp-2, cp-3") {
		t.Errorf("one that is down, with few control planes: %v", err)
	}
}

// What must not be touched, or cannot be reached, is left alone, and the rest goes on.
func TestHeld(t *testing.T) {
	s := Situation{Machines: fixture.Machines(3, 2), Alive: true, Changes: append(changed("cp-1", "cp-2", "w-1"), Change{Kind: ObjectChange, Name: "x"})}
	s.Hold(map[string][]string{"cp-2": {"its disk is gone"}})
	for _, step := range Schedule(s) {
		if step.Host == "cp-2" {
			t.Errorf("a host that is held has the step %s", step.Name)
		}
	}
	if len(s.Changes) != 3 || s.Enough() != nil {
		t.Errorf("left are %v, %v", s.Changes, s.Enough())
	}
	s.Alive, s.Initialized = false, true // two of three bring etcd up
	if err := s.Enough(); err != nil {
		t.Error(err)
	}
	s.Hold(map[string][]string{"cp-1": {"it cannot be reached"}})
	if err := s.Enough(); err == nil || !strings.Contains(err.Error(), "cp-1: it cannot be reached") || !strings.Contains(err.Error(), "cp-2: its disk is gone") {
		t.Errorf("one of three is left: %v", err)
	}
}

// With one of three members lost, no other can be spared: what does not restart it is done all the same.
func TestOnlyARestartOfEtcdNeedsAMemberToSpare(t *testing.T) {
	for action, want := range map[Change]bool{
		{Host: "cp-1", Kind: FileChange, Name: stack.PKIDir + "/etcd/server.crt", Action: Update}: false,
		{Host: "cp-1", Kind: UnitChange, Name: stack.KubeletService, Action: Restart}:             false,
		{Host: "cp-1", Kind: UnitChange, Name: stack.EtcdService, Action: Await}:                  false,
		{Host: "cp-1", Kind: UnitChange, Name: stack.EtcdService, Action: Restart}:                true,
		{Host: "cp-1", Kind: UnitChange, Name: stack.EtcdService, Action: Create}:                 true,
	} {
		p := planner{Situation: Situation{Machines: fixture.Machines(3, 0), Alive: true, Changes: []Change{action}}}
		if got := slices.ContainsFunc(Schedule(p.Situation), func(s Step) bool { return s.Verb == CheckQuorum }); got != want {
			t.Errorf("%v: a proof that etcd can spare the member: %t, want %t", action, got, want)
		}
	}
}

// An apply that installs or changes ends when the cluster can be used; one that has nothing to do asks nothing, nor does one of
// some hosts, and a stage of a rotation has proofs of its own.
func TestScheduleEndsWhenTheClusterCanBeUsed(t *testing.T) {
	label := []Change{{Host: "w-1", Kind: LabelChange, Name: "tier", Action: Create}}
	for name, tt := range map[string]struct {
		situation Situation
		want      bool
	}{
		"a first start":  {Situation{Changes: changed("cp-1")}, true},
		"a change":       {Situation{Alive: true, Changes: changed("w-1")}, true},
		"an object":      {Situation{Alive: true, Changes: []Change{{Kind: ObjectChange, Name: "x", Action: Update}}}, true},
		"nothing":        {Situation{Alive: true}, false},
		"a label":        {Situation{Alive: true, Changes: label}, false},
		"some hosts":     {Situation{Alive: true, Changes: changed("w-1"), Selected: []string{"w-1"}}, false},
		"of a rotation ": {Situation{Alive: true, Changes: changed("w-1"), Proofs: []Proof{{Verb: AwaitRootCA}}}, false},
	} {
		tt.situation.Machines = fixture.Machines(1, 1)
		steps := Schedule(tt.situation)
		if got := slices.ContainsFunc(steps, func(s Step) bool { return s.Verb == AwaitUsable }); got != tt.want {
			t.Errorf("%s: waits until it can be used: %t, in\n%s", name, got, listed(steps))
		}
		if tt.want && steps[len(steps)-1].Verb != AwaitUsable {
			t.Errorf("%s: it is not the last:\n%s", name, listed(steps))
		}
	}
}

// A control plane whose member of etcd does not run comes before one on which only something else is broken: no other member
// could be spared before.
func TestScheduleMendsMembersFirst(t *testing.T) {
	s := Situation{Machines: fixture.Machines(3, 0), Alive: true, Initialized: true, Changes: []Change{
		{Host: "cp-1", Kind: UnitChange, Name: stack.EtcdService, Action: Restart},
		{Host: "cp-2", Kind: UnitChange, Name: stack.EtcdService, Action: Restart},
		{Host: "cp-2", Kind: UnitChange, Name: "kube-scheduler.service", Action: Update},
		{Host: "cp-3", Kind: UnitChange, Name: stack.EtcdService, Action: Update},
	}}
	var order []string
	for _, step := range Schedule(s) {
		if step.Verb == Apply {
			order = append(order, step.Host)
		}
	}
	if !slices.Equal(order, []string{"cp-3", "cp-2", "cp-1"}) {
		t.Errorf("control planes are changed in the order %v", order)
	}
}
