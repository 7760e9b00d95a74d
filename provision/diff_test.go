package provision

import (
	"io/fs"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	want := HostState{
		Files: map[string]File{
			"/new":     {Mode: 0o644, Owner: "root:root", Digest: "1"},
			"/content": {Mode: 0o644, Owner: "root:root", Digest: "1"},
			"/mode":    {Mode: 0o600, Owner: "root:root", Digest: "1"},
			"/owner":   {Mode: 0o644, Owner: "root:root", Digest: "1"},
			"/type":    {Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/x"},
			"/right":   {Mode: 0o644, Owner: "root:root", Digest: "1", Content: []byte("x"), Why: "PKI"},
		},
		Units: map[string]Unit{
			"new.service":      {Enabled: true, Active: true, Inputs: "1"},
			"stopped.service":  {Enabled: true, Active: true, Inputs: "1"},
			"stale.service":    {Enabled: true, Active: true, Inputs: "1"},
			"disabled.service": {Enabled: true, Active: true, Inputs: "1"},
			"right.service":    {Enabled: true, Active: true, Inputs: "1"},
		},
		Sysctls: map[string]string{"a": "1", "absent": "1", "right": "1"},
	}
	have := HostState{
		Files: map[string]File{
			"/content":                        {Mode: 0o644, Owner: "root:root", Digest: "2"},
			"/mode":                           {Mode: 0o644, Owner: "root:root", Digest: "1"},
			"/owner":                          {Mode: 0o644, Owner: "user:root", Digest: "1"},
			"/type":                           {Mode: 0o777, Owner: "root:root", Digest: "/x"},
			"/right":                          {Mode: 0o644, Owner: "root:root", Digest: "1", Owned: true},
			"/ours":                           {Mode: 0o644, Owned: true},
			"/theirs":                         {Mode: 0o644},
			"/etc/systemd/system/old.service": {Mode: 0o644, Owned: true},
		},
		Units: map[string]Unit{
			"stopped.service":  {Enabled: true, State: "failed/failed"},
			"stale.service":    {Enabled: true, Active: true, Inputs: "0"},
			"disabled.service": {Active: true, Inputs: "1"},
			"right.service":    {Enabled: true, Active: true, Inputs: "1", State: "active/running"},
			"old.service":      {Enabled: true, Active: true},
			"theirs.service":   {Enabled: true, Active: true},
		},
		Sysctls: map[string]string{"a": "0", "right": "1"},
	}
	changes := Diff(State{Hosts: map[string]HostState{"h": want}}, State{Hosts: map[string]HostState{"h": have}})
	var got strings.Builder
	for _, c := range changes {
		got.WriteString(c.String() + "\n")
	}
	const expected = `h: ~ file /content (content differs)
h: ~ file /mode (mode is 0644, should be 0600)
h: + file /new (missing)
h: ~ file /owner (owner is user:root, should be root:root)
h: ~ file /type (is not the right type of file)
h: - file /etc/systemd/system/old.service (no longer wanted)
h: - file /ours (no longer wanted)
h: ~ unit disabled.service (is not enabled)
h: + unit new.service (missing)
h: ^ unit stale.service (runs with other inputs)
h: ~ unit stopped.service (is failed/failed)
h: - unit old.service (no longer wanted)
h: ~ sysctl a (is 0, should be 1)
`
	if got.String() != expected {
		t.Errorf("got:\n%swant:\n%s", got.String(), expected)
	}
}

func TestRefuse(t *testing.T) {
	in := input(t)
	fine := func() State {
		s := State{Hosts: map[string]HostState{}}
		for name, f := range in.Facts {
			f.CgroupV2 = true
			s.Hosts[name] = HostState{Facts: f}
		}
		return s
	}
	set := func(s State, name string, change func(*Facts)) State {
		h := s.Hosts[name]
		change(&h.Facts)
		s.Hosts[name] = h
		return s
	}
	tests := []struct {
		name   string
		state  State
		strict bool
		want   []string
	}{
		{name: "nothing to say", state: fine()},
		{name: "no systemd", state: set(fine(), "demo-worker-1", func(f *Facts) { f.Systemd = false }), want: []string{"demo-worker-1: systemd"}},
		{name: "another architecture", state: set(fine(), "demo-cp-2", func(f *Facts) { f.Arch = "arm64" }), want: []string{"demo-cp-2: the machine is arm64"}},
		{name: "cgroup v1 not allowed", strict: true, state: set(fine(), "demo-cp-3", func(f *Facts) { f.CgroupV2 = false }), want: []string{"demo-cp-3", "allowCgroupV1"}},
		{name: "cgroup v1 allowed", state: set(fine(), "demo-cp-3", func(f *Facts) { f.CgroupV2 = false })},
		{
			name: "a member lost its data", want: []string{"demo-cp-2: the cluster has been up", "demo-cp-3: the cluster has been up"},
			state: set(fine(), "demo-cp-1", func(f *Facts) { f.Initialized, f.EtcdData = true, true }),
		},
		{name: "a first start that was cut short", state: set(fine(), "demo-cp-1", func(f *Facts) { f.EtcdData = true })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			allow := !tt.strict
			in.Cluster.Spec.AllowCgroupV1 = &allow
			err := Refuse(in, tt.state)
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
