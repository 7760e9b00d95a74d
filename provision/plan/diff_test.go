package plan

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/kube"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

func TestDiff(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 3, 0, 0, time.Local)
	file := func(digest string) stack.File { return stack.File{Mode: 0o644, Owner: "root:root", Digest: digest} }
	want := stack.HostState{
		Files: map[string]stack.File{
			"/new": file("1"), "/removed": file("1"), "/wanted": file("1"), "/edited": file("1"), "/both": file("1"), "/right": file("1"),
			"/mode":                           {Mode: 0o600, Owner: "root:root", Digest: "1", Secret: true},
			"/owner":                          file("1"),
			"/type":                           {Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/x", Program: true},
			stack.UnitDir + "misread.service": file("1"),
		},
		Units: map[string]stack.Unit{
			"new.service":      {Enabled: true, Active: true, Inputs: "1"},
			"stopped.service":  {Enabled: true, Active: true, Inputs: "1"},
			"starting.service": {Enabled: true, Active: true, Inputs: "1"},
			"slow.service":     {Enabled: true, Active: true, Inputs: "1"},
			"unread.service":   {Enabled: true, Active: true, Inputs: "1"},
			"stale.service":    {Enabled: true, Active: true, Inputs: "1"},
			"misread.service":  {Enabled: true, Active: true, Inputs: "1", Reads: []string{stack.UnitDir + "misread.service", "/edited"}},
			"disabled.service": {Enabled: true, Active: true, Inputs: "1"},
			"right.service":    {Enabled: true, Active: true, Inputs: "1"},
			"worn.service":     {Enabled: true, Active: true, Inputs: "1", MaxAge: time.Hour},
			"young.service":    {Enabled: true, Active: true, Inputs: "1", MaxAge: time.Hour},
			"old-and-stale":    {Enabled: true, Active: true, Inputs: "1", MaxAge: time.Hour},
		},
		Sysctls: map[string]string{"a": "1", "absent": "1", "right": "1"},
		Modules: map[string]bool{"gone": true, "right": true, "builtin": true},
		Images:  map[string]bool{"pause:1": true, "coredns:1": true},
	}
	have := stack.HostState{
		Files: map[string]stack.File{
			"/wanted": file("0"), "/both": file("9"), "/right": file("1"),
			"/edited": {Mode: 0o644, Owner: "root:root", Digest: "9", Changed: noon},
			"/mode":   {Mode: 0o644, Owner: "root:root", Digest: "1"},
			"/owner":  {Mode: 0o644, Owner: "user:root", Digest: "1"},
			"/type":   {Mode: 0o777, Owner: "root:root", Digest: "/x"},
			"/ours":   file("1"), "/theirs": file("1"),
			stack.UnitDir + "misread.service": file("1"), stack.UnitDir + "old.service": file("1"),
		},
		Owned: map[string]string{
			"/removed": "1", "/wanted": "0", "/edited": "1", "/both": "0", "/right": "1", "/ours": "1", "/gone": "1",
			stack.UnitDir + "misread.service": "1", stack.UnitDir + "old.service": "1",
		},
		Units: map[string]stack.Unit{
			"stopped.service":  {Enabled: true, State: "failed/failed", Changed: noon},
			"starting.service": {Enabled: true, State: "activating/start", Inputs: "1"},
			"slow.service":     {State: "activating/start", Inputs: "1"},
			"unread.service":   {Enabled: true, State: "activating/auto-restart", Inputs: "1", Unread: true},
			"stale.service":    {Enabled: true, Active: true, Inputs: "0"},
			"misread.service":  {Enabled: true, Active: true, Inputs: "1", Changed: noon},
			"disabled.service": {Active: true, Inputs: "1"},
			"right.service":    {Enabled: true, Active: true, Inputs: "1", State: "active/running", Running: 1000 * time.Hour},
			"worn.service":     {Enabled: true, Active: true, Inputs: "1", Changed: noon, Running: time.Hour + time.Second},
			"young.service":    {Enabled: true, Active: true, Inputs: "1", Changed: noon, Running: time.Hour},
			"old-and-stale":    {Enabled: true, Active: true, Inputs: "0", Changed: noon, Running: 2 * time.Hour},
			"old.service":      {Enabled: true, Active: true},
			"theirs.service":   {Enabled: true, Active: true},
		},
		Sysctls: map[string]string{"a": "0", "right": "1"},
		Modules: map[string]bool{"gone": false, "right": true},
		Images:  map[string]bool{"pause:1": true, "theirs": true},
	}
	desired := stack.State{
		Hosts: map[string]stack.HostState{"h": want},
		Nodes: map[string]kube.Node{"h": {
			Labels: map[string]string{"new": "1", "drift": "1", "wrong": "1"}, Taints: map[string]string{"t:NoSchedule": ""}, Version: "v2", Ready: true,
		}},
		Members: map[string]stack.Member{"h": {PeerURL: "https://a", Healthy: true}, "i": {PeerURL: "https://i", Healthy: true}},
	}
	observed := stack.State{
		Hosts: map[string]stack.HostState{"h": have},
		Nodes: map[string]kube.Node{"h": {
			Labels: map[string]string{"wrong": "2", "ours": "1", "theirs": "1"}, Taints: map[string]string{}, Version: "v1", Ready: true,
			RecordedLabels: map[string]string{"drift": "1", "ours": "1"},
		}},
		Members: map[string]stack.Member{"h": {PeerURL: "https://a", Problem: "no answer"}, "j": {}},
	}
	var got strings.Builder
	for _, c := range Diff(desired, observed) {
		_, _ = fmt.Fprintf(&got, "%s %s\n", c.Cause, c)
	}
	const expected = `drift h: ~ file /both (edited on the host, and its desired content changed)
drift h: ~ file /edited (edited on the host at 2026-11-21 12:03:00)
drift h: ~ file /mode (mode is 0644, should be 0600)
wanted h: + file /new (missing)
drift h: ~ file /owner (owner is user:root, should be root:root)
drift h: + file /removed (removed on the host)
drift h: ~ program /type (is a file, should be a link)
wanted h: ~ file /wanted (desired content changed)
wanted h: - file /etc/systemd/system/old.service (no longer wanted)
wanted h: - file /ours (no longer wanted)
drift h: ~ unit disabled.service (is not enabled)
drift h: ^ unit misread.service (was started after /edited had been edited)
wanted h: + unit new.service (missing)
wanted h: ^ unit old-and-stale (was started with an earlier configuration)
drift h: ~ unit slow.service (is activating/start, and is not enabled)
wanted h: ^ unit stale.service (was started with an earlier configuration)
wanted h: . unit starting.service (is activating/start)
drift h: ~ unit stopped.service (is failed/failed since 2026-11-21 12:03:00)
wanted h: ^ unit unread.service (is activating/auto-restart)
wanted h: ^ unit worn.service (has run since 2026-11-21: the certificate that it uses for connections to itself may expire a year after its start)
wanted h: - unit old.service (no longer wanted)
drift h: ~ sysctl a (is 0, should be 1)
drift h: + module gone (is not loaded)
drift h: + image coredns:1 (the container runtime does not have it)
wanted h: ~ node h (its kubelet is v1, should be v2)
drift h: + label drift (removed in the API)
wanted h: + label new (missing)
wanted h: ~ label wrong (is "2", should be "1")
wanted h: - label ours (no longer wanted)
wanted h: + taint t:NoSchedule (missing)
drift h: ~ member h (is not healthy: no answer)
drift i: + member i (is not a member of etcd)
wanted : - member j (is not in the spec)
`
	if diff := cmp.Diff(expected, strings.ReplaceAll(got.String(), "wanted - member", "wanted : - member")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A kubelet registers its node when it starts: one that has run for long, and whose node was deleted, starts again.
func TestDiffOfADeletedNode(t *testing.T) {
	want := stack.State{
		Hosts: map[string]stack.HostState{"h": {Units: map[string]stack.Unit{stack.KubeletService: {Enabled: true, Active: true, Inputs: "1"}}}},
		Nodes: map[string]kube.Node{"h": {}},
	}
	for running, lines := range map[time.Duration]int{settleTime + time.Second: 2, settleTime: 1} {
		have := stack.State{
			Hosts: map[string]stack.HostState{"h": {
				Owned: map[string]string{"/x": ""}, Units: map[string]stack.Unit{stack.KubeletService: {Enabled: true, Active: true, Inputs: "1", Running: running}},
			}},
			Nodes: map[string]kube.Node{},
		}
		changes := Diff(want, have)
		if len(changes) != lines || lines == 2 && (changes[0].Action != Restart || changes[0].Cause != Drift) {
			t.Errorf("running for %v: %v", running, changes)
		}
		p := planner{of: map[string][]Change{"h": changes}}
		if p.joining("h") {
			t.Error("a node whose kubelet runs is taken for one that is empty")
		}
	}
}

// An image that is on its way is waited for, and not imported twice.
func TestDiffOfAnImport(t *testing.T) {
	want := stack.State{Hosts: map[string]stack.HostState{"h": {Images: map[string]bool{"pause:1": true}}}}
	have := stack.HostState{Owned: map[string]string{"/x": ""}, Units: map[string]stack.Unit{stack.ImagesService: {State: "activating/start"}}, Images: map[string]bool{}}
	changes := Diff(want, stack.State{Hosts: map[string]stack.HostState{"h": have}})
	if len(changes) != 1 || changes[0].Action != Await {
		t.Fatalf("changes are %v", changes)
	}
	for _, alive := range []bool{true, false} {
		steps := Schedule(Situation{Machines: []spec.Machine{{Name: "h", Role: spec.Worker}}, Alive: alive, Changes: changes})
		for _, s := range steps {
			if !s.Gate() {
				t.Errorf("alive %t: %q changes something", alive, s.Name)
			}
		}
	}
}

// A host that slipway has never written to cannot have drifted.
func TestDiffOfAFreshHost(t *testing.T) {
	want := fixture.Desired(t, fixture.Input(t))
	for _, c := range Diff(want, stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": {Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}}}}) {
		if c.Cause != Wanted {
			t.Errorf("%s has cause %s", c, c.Cause)
		}
	}
}

// A cluster that has been up keeps its authorities and its networks.
func TestRefuseWhatALivingClusterCannotTake(t *testing.T) {
	in := fixture.Input(t)
	allow := true
	in.Cluster.Spec.AllowCgroupV1 = &allow
	up := stack.State{Hosts: map[string]stack.HostState{}}
	for name, f := range in.Facts {
		f.Initialized, f.EtcdData = true, true
		up.Hosts[name] = stack.HostState{Facts: f}
	}
	anew := Before{Issued: []certs.Change{{Name: certs.KubernetesCA, Reason: certs.Missing}}}
	leaf := Before{Issued: []certs.Change{{Name: "apiserver@demo-cp-1", Reason: certs.Expiring}}}
	moved := fixture.Reparsed(t, in, "provider: {local: {}}", "provider: {local: {}}\n  network: {podSubnet: 10.50.0.0/16, dnsDomain: other.local}")
	for name, tt := range map[string]struct {
		in     stack.Input
		before Before
		want   []string
	}{
		"nothing":        {in, before(t, in), nil},
		"a new CA":       {in, anew, []string{"has no \"ca\" for it"}},
		"a renewed leaf": {in, leaf, nil},
		"other networks": {moved, before(t, in), []string{"spec.network.podSubnet was 10.244.0.0/16 and is 10.50.0.0/16", "spec.network.dnsDomain was cluster.local"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := Refuse(tt.in, tt.before, up).err()
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("error is %v, want %q", err, tt.want)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
			if err := Refuse(tt.in, tt.before, stack.State{Hosts: map[string]stack.HostState{}}).err(); err != nil && strings.Contains(err.Error(), "has been up") {
				t.Errorf("where nothing has been up: %v", err)
			}
		})
	}
}

func TestRefuseMembers(t *testing.T) {
	want := stack.State{Members: map[string]stack.Member{"a": {PeerURL: "https://a"}, "b": {PeerURL: "https://b"}}}
	for name, tt := range map[string]struct {
		have map[string]stack.Member
		want string
	}{
		"not asked": {nil, ""},
		"as wanted": {map[string]stack.Member{"a": {PeerURL: "https://a"}, "b": {PeerURL: "https://b", Problem: "sick"}}, ""},
		"missing":   {map[string]stack.Member{"a": {PeerURL: "https://a"}}, "b: it is not an etcd member"},
		"elsewhere": {map[string]stack.Member{"a": {PeerURL: "https://z"}, "b": {PeerURL: "https://b"}}, "a: its etcd member is at https://z"},
		"surplus":   {map[string]stack.Member{"a": {PeerURL: "https://a"}, "b": {PeerURL: "https://b"}, "c": {}}, "etcd has a member \"c\""},
	} {
		var r Refusals
		r.Members(want, stack.State{Members: tt.have})
		err := r.err()
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
	}
}

func TestRefuse(t *testing.T) {
	in := fixture.Input(t)
	fine := func() stack.State {
		s := stack.State{Hosts: map[string]stack.HostState{}}
		for name, f := range in.Facts {
			f.CgroupV2 = true
			s.Hosts[name] = stack.HostState{Facts: f}
		}
		return s
	}
	set := func(s stack.State, name string, change func(*stack.Facts)) stack.State {
		h := s.Hosts[name]
		change(&h.Facts)
		s.Hosts[name] = h
		return s
	}
	tests := []struct {
		name   string
		state  stack.State
		strict bool
		want   []string
	}{
		{name: "nothing to say", state: fine()},
		{name: "no systemd", state: set(fine(), "demo-worker-1", func(f *stack.Facts) { f.Systemd = false }), want: []string{"demo-worker-1: it does not run systemd"}},
		{name: "another architecture", state: set(fine(), "demo-cp-2", func(f *stack.Facts) { f.Arch = "arm64" })},
		{
			name: "one without programs", state: set(fine(), "demo-cp-2", func(f *stack.Facts) { f.Arch = "riscv64" }),
			want: []string{"demo-cp-2: its processor is riscv64, and slipway has programs for amd64 and arm64: take it out of the spec"},
		},
		{name: "cgroup v1 not allowed", strict: true, state: set(fine(), "demo-cp-3", func(f *stack.Facts) { f.CgroupV2 = false }), want: []string{"demo-cp-3", "allowCgroupV1"}},
		{name: "cgroup v1 allowed", state: set(fine(), "demo-cp-3", func(f *stack.Facts) { f.CgroupV2 = false })},
		{
			name: "a member lost its data", want: []string{"demo-cp-2: it had an etcd member", "demo-cp-3: it had an etcd member"},
			state: set(fine(), "demo-cp-1", func(f *stack.Facts) { f.Initialized, f.EtcdData = true, true }),
		},
		{name: "a first start that was cut short", state: set(fine(), "demo-cp-1", func(f *stack.Facts) { f.EtcdData, f.ClusterUID = true, in.UID })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			allow := !tt.strict
			in.Cluster.Spec.AllowCgroupV1 = &allow
			err := Refuse(in, Before{}, tt.state).err()
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("error is %v, want %q", err, tt.want)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
		})
	}
}

// A unit that is only starting gets another order where its unit file is to be another: its process, which is yet to come,
// gets its inputs from there, and nothing tells them before.
func TestDiffRestartsWhatStartsWithAnotherUnitFile(t *testing.T) {
	const name = "slipway-images.service"
	state := func(file, word string) stack.State {
		return stack.State{Hosts: map[string]stack.HostState{"h": {
			Files: map[string]stack.File{stack.UnitDir + name: {Digest: file}}, Owned: map[string]string{stack.UnitDir + name: "1"},
			Units: map[string]stack.Unit{name: {Enabled: true, State: word}},
		}}}
	}
	for file, want := range map[string]Action{"1": Await, "2": Restart} {
		i := slices.IndexFunc(Diff(state("1", ""), state(file, "activating/start")), func(c Change) bool {
			return c.Kind == UnitChange && c.Action == want
		})
		if i < 0 {
			t.Errorf("with unit file %s: got %v, want action %c", file, Diff(state("1", ""), state(file, "activating/start")), want)
		}
	}
}
