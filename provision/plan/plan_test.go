package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// savedPlan is a plan of one change on a living cluster, written and read again, with what was observed.
func savedPlan(t *testing.T, in stack.Input) (*Plan, stack.State) {
	t.Helper()
	want := fixture.Desired(t, in)
	observed := observedAs(t, in)
	worker := observed.Hosts["demo-worker-1"]
	delete(worker.Files, "/etc/crictl.yaml")
	p := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(want, observed)})
	text, err := json.Marshal(in.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	p.Basis = &Basis{SpecFile: "cluster.yaml", Spec: text, Observed: observed}
	if text, err = json.Marshal(p); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"private key": "PRIVATE KEY", "encryption key": string(in.EncryptionKeys[0].Key.Reveal())} {
		if strings.Contains(string(text), key) {
			t.Errorf("the saved plan holds a %s", name)
		}
	}
	read, err := ReadPlan(text)
	if err != nil {
		t.Fatal(err)
	}
	return read, observed
}

// observedAs is a living cluster that is as desired.
func observedAs(t *testing.T, in stack.Input) stack.State {
	t.Helper()
	s := fixture.Desired(t, in)
	for name, h := range s.Hosts {
		h.Files, h.Owned = maps.Clone(h.Files), map[string]string{}
		for p, f := range h.Files {
			h.Owned[p], f.Content = f.Digest, nil
			h.Files[p] = f
		}
		s.Hosts[name] = h
	}
	return s
}

func TestSavedPlanFitsWhileNothingMoves(t *testing.T) {
	in := fixture.Input(t)
	saved, observed := savedPlan(t, in)
	now := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, in), observed)})
	if moved := saved.Moved(observed, now); len(moved) > 0 {
		t.Errorf("nothing has moved, and named are %q", moved)
	}
	if listed(saved.Steps) != listed(now.Steps) || len(saved.Steps) == 0 {
		t.Errorf("saved are\n%sand now it would be\n%s", listed(saved.Steps), listed(now.Steps))
	}
	if cluster, err := saved.Basis.Cluster(); err != nil || cluster.Metadata.Name != "demo" {
		t.Errorf("the spec in the plan is %v, %v", cluster, err)
	}
}

// TestEmptyListsAreLists: a reader of a plan without changes needs no case for null.
func TestEmptyListsAreLists(t *testing.T) {
	text, err := json.Marshal(NewPlan("demo", Situation{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{`"changes":[]`, `"steps":[]`, `"disruptions":[]`} {
		if !strings.Contains(string(text), list) {
			t.Errorf("%s lacks %s", text, list)
		}
	}
}

func TestSavedPlanNamesWhatMoved(t *testing.T) {
	in := fixture.Input(t)
	tests := []struct {
		name string
		move func(s *stack.State, in *stack.Input)
		want string
	}{
		{"a file", func(s *stack.State, _ *stack.Input) {
			edit(s, "demo-cp-2", "/etc/crictl.yaml", stack.File{Digest: "mine"})
		}, "demo-cp-2: file /etc/crictl.yaml: was"},
		{"a file that is gone", func(s *stack.State, _ *stack.Input) { delete(s.Hosts["demo-cp-2"].Files, "/etc/crictl.yaml") }, "is nothing"},
		{"a unit", func(s *stack.State, _ *stack.Input) {
			u := s.Hosts["demo-cp-1"].Units["etcd.service"]
			u.Active = false
			units := maps.Clone(s.Hosts["demo-cp-1"].Units)
			units["etcd.service"] = u
			h := s.Hosts["demo-cp-1"]
			h.Units = units
			s.Hosts["demo-cp-1"] = h
		}, "demo-cp-1: unit etcd.service: was active true, enabled true"},
		{"a fact", func(s *stack.State, _ *stack.Input) {
			h := s.Hosts["demo-cp-1"]
			h.Facts.Kernel = "7.0"
			s.Hosts["demo-cp-1"] = h
		}, "demo-cp-1: host facts: was"},
		{"a member", func(s *stack.State, _ *stack.Input) {
			s.Members = maps.Clone(s.Members)
			s.Members["demo-cp-3"] = stack.Member{PeerURL: "https://elsewhere"}
		}, "demo-cp-3: member: was"},
		{"the bundle", func(_ *stack.State, in *stack.Input) {
			in.Artifacts = fixture.Sets(*in)
			a := in.Artifacts["amd64"]["etcd"]
			a.Mounted = "d9/bin/etcd"
			in.Artifacts["amd64"]["etcd"] = a
		}, "demo-cp-1: program /opt/slipway/stack/v1/bin/etcd: the plan says nothing, today it would be update /bundles/d9/bin/etcd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			saved, observed := savedPlan(t, in)
			moved := in
			tt.move(&observed, &moved)
			now := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, moved), observed)})
			if got := strings.Join(saved.Moved(observed, now), "\n"); !strings.Contains(got, tt.want) {
				t.Errorf("named is %q, want %q", got, tt.want)
			}
		})
	}
	saved, observed := savedPlan(t, in)
	saved.Resources = []spec.ResourceChange{{Kind: "balancer", Name: "demo-balancer", Reason: "does not exist"}}
	same := NewPlan("demo", Situation{Machines: in.Machines, Alive: true, Changes: Diff(fixture.Desired(t, in), observed)})
	const made = "balancer demo-balancer: the plan has create (does not exist), today it would be nothing"
	if got := saved.Moved(observed, same); !slices.Contains(got, made) {
		t.Errorf("named is %q, want %q", got, made)
	}
	saved.Resources = nil
	now := NewPlan("demo", Situation{Machines: in.Machines, Changes: Diff(fixture.Desired(t, in), observed)})
	if got := saved.Moved(observed, now); !strings.Contains(strings.Join(got, "\n"), "the cluster: alive: was true, is false") {
		t.Errorf("a cluster that has lost its quorum: %q", got)
	}
}

func edit(s *stack.State, host, path string, f stack.File) { s.Hosts[host].Files[path] = f }

func TestReadPlanRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "not a plan",
		"apiVersion: v1":                    "not a plan",
		`{"version":"slipway.dev/plan/v9"}`: `has format "slipway.dev/plan/v9"`,
		`{"version":"slipway.dev/plan/v1"}`: "lacks its basis",
		`{"version":"slipway.dev/plan/v1","changes":3}`:                      "damaged",
		`{"version":"slipway.dev/plan/v1","changes":[{"action":"explode"}]}`: "no such action",
	} {
		if _, err := ReadPlan([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", text, err, want)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	f.Add([]byte(`{"version":"slipway.dev/plan/v1","changes":[{"kind":"file","name":"/x","action":"create"}],"basis":{"spec":{}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ReadPlan(text)
		if err == nil && p.Basis == nil {
			t.Error("a plan without a basis")
		}
	})
}

func TestDisruptions(t *testing.T) {
	restart := func(unit string, hosts ...string) []Change {
		var changes []Change
		for _, h := range hosts {
			changes = append(changes, Change{Host: h, Kind: UnitChange, Name: unit, Action: Restart})
		}
		return changes
	}
	tests := []struct {
		name         string
		cps, workers int
		most         int
		changes      []Change
		want         []string
	}{
		{
			"kubelets of which some are not Ready", 1, 6, 1, restart("kubelet.service", "w-1", "w-4", "w-5", "w-6"),
			[]string{"kubelet restarts on w-4, w-5, w-6, w-1, up to 3 at a time in each pool: pods continue to run"},
		},
		{"nothing restarts", 3, 1, 1, changed("w-1"), nil},
		{
			"API servers", 3, 0, 1, restart("kube-apiserver.service", "cp-1", "cp-2", "cp-3"),
			[]string{"kube-apiserver restarts on cp-1, cp-2, cp-3, one at a time: clients continue with the other API servers; pods continue to run"},
		},
		{
			"the only control plane", 1, 0, 1, restart("etcd.service", "cp-1"),
			[]string{"etcd restarts on cp-1: the API is down meanwhile, since this is the only control plane; pods continue to run"},
		},
		{
			"kubelets", 1, 4, 2, restart("kubelet.service", "cp-1", "w-1", "w-2", "w-3"),
			[]string{"kubelet restarts on cp-1, w-1, w-2, w-3, control planes one at a time, workers up to 2 at a time in each pool: pods continue to run"},
		},
		{
			"what starts disturbs nobody", 1, 1, 1,
			[]Change{{Host: "w-1", Kind: UnitChange, Name: "kubelet.service", Action: Create}, {Host: "w-1", Kind: UnitChange, Name: "flanneld.service", Action: Update}},
			nil,
		},
		{
			"client certificates of an API server, and of a kubelet", 1, 1, 1,
			[]Change{
				{Host: "cp-1", Kind: FileChange, Name: stack.PKIDir + "/apiserver-kubelet-client.crt", Action: Update},
				{Host: "cp-1", Kind: FileChange, Name: "/var/lib/kubelet/pki/kubelet-client.crt", Action: Update},
			},
			[]string{"kube-apiserver connects with a new client certificate on cp-1: sessions of kubectl exec, attach, port-forward and logs --follow end " +
				"within 5 minutes, and can be started again"},
		},
		{
			"a taint and a Deployment", 1, 1, 1,
			[]Change{
				{Host: "w-1", Kind: TaintChange, Name: "gpu:NoExecute", Action: Create},
				{Kind: ObjectChange, Name: "Deployment kube-system/coredns", Action: Update},
			},
			[]string{"Deployment kube-system/coredns may roll: its pods are replaced one after another", "taint gpu:NoExecute on w-1: pods that do not tolerate it are evicted"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Situation{Machines: fixture.Machines(tt.cps, tt.workers), Alive: true, Changes: tt.changes, MaxUnavailable: map[string]int{"w": tt.most}}
			s.Down = map[string]bool{"w-4": true, "w-5": true, "w-6": true}
			var got []string
			for _, d := range Disruptions(s, Schedule(s)) {
				got = append(got, d.String())
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			s.Alive = false
			if got := Disruptions(s, Schedule(s)); got != nil {
				t.Errorf("a cluster that is not up is disturbed: %v", got)
			}
		})
	}
}
