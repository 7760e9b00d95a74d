package observe

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

const report = `[facts]
os=Debian GNU/Linux 12 (bookworm)
kernel=6.1.0
machine=x86_64
cgroup=cgroup2fs
capbnd=000001fffeffffff
systemd=1
etcddata=whole
conntrack=1
resolv=/etc/resolv.conf
free=1234
now=1795176181.5
[files]
f	600	root:root	1763726580.5		/etc/kubernetes/pki/ca.key
l	777	root:root	0	/bundles/d1/bin/etcd	/opt/slipway/etcd/v1/bin/etcd
d	755	root:root	1763726580.5		/a path	with a tab
[digests]
abcd  /etc/kubernetes/pki/ca.key
[owned]
/bundles/d0/bin/etcd	/opt/slipway/etcd/v1/bin/etcd
/gone
[units]
Id=etcd.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
MainPID=17
StateChangeTimestamp=Fri 2026-11-20 12:03:00 UTC

Id=images.service
LoadState=loaded
ActiveState=active
SubState=exited
UnitFileState=disabled
MainPID=0

Id=waiting.service
LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=enabled
MainPID=0
Job=123

Id=none.service
LoadState=not-found
ActiveState=inactive
MainPID=0
[inputs]
17=aaaa
images.service=bbbb
[sysctls]
net.ipv4.ip_forward=1
[modules]
overlay=1
br_netfilter=0
[accounts]
etcd=1
[images]
slipway.invalid/pause:v1
known
[end]
`

func TestParseObservation(t *testing.T) {
	got, err := parseObservation(report, stack.HostState{}, newVocabulary())
	if err != nil {
		t.Fatal(err)
	}
	wantFacts := stack.Facts{
		OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0", Arch: "amd64", CgroupV2: true, SysResource: false, ReadSearch: true,
		ConntrackWritable: true, ResolvConf: "/etc/resolv.conf", EtcdData: true, Systemd: true, FreeBytes: 1234,
		Clock: stack.Clock{Read: time.Unix(1795176181, 0).UTC()},
	}
	if diff := cmp.Diff(wantFacts, got.Facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	files := map[string]stack.File{
		"/etc/kubernetes/pki/ca.key":    {Mode: 0o600, Owner: "root:root", Digest: "abcd"},
		"/opt/slipway/etcd/v1/bin/etcd": {Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/bundles/d1/bin/etcd"},
		"/a path\twith a tab":           {Mode: fs.ModeDir | 0o755, Owner: "root:root"},
	}
	for p, want := range files {
		f := got.Files[p]
		if f.Mode != want.Mode || f.Owner != want.Owner || f.Digest != want.Digest {
			t.Errorf("%s is %+v, want %+v", p, f, want)
		}
	}
	if len(got.Files) != len(files) {
		t.Errorf("files are %v", got.Files)
	}
	if changed := got.Files["/etc/kubernetes/pki/ca.key"].Changed; changed.Unix() != 1763726580 || !got.Files["/opt/slipway/etcd/v1/bin/etcd"].Changed.IsZero() {
		t.Errorf("the key changed at %v", changed)
	}
	if diff := cmp.Diff(map[string]string{"/opt/slipway/etcd/v1/bin/etcd": "/bundles/d0/bin/etcd", "/gone": ""}, got.Owned); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	units := map[string]stack.Unit{
		"etcd.service": {
			Enabled: true, Active: true, Inputs: "aaaa", State: "active/running", Changed: time.Date(2026, 11, 20, 12, 3, 0, 0, time.UTC),
			Running: time.Second,
		},
		"images.service":  {Active: true, Inputs: "bbbb", State: "active/exited"},
		"waiting.service": {Enabled: true, State: "activating/queued"},
	}
	if diff := cmp.Diff(units, got.Units); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	if !got.Modules["overlay"] || got.Modules["br_netfilter"] || len(got.Modules) != 2 || !got.Images["slipway.invalid/pause:v1"] || len(got.Images) != 1 {
		t.Errorf("modules are %v, images %v", got.Modules, got.Images)
	}
	if !maps.Equal(got.Accounts, map[string]bool{"etcd": true}) {
		t.Errorf("accounts are %v", got.Accounts)
	}
	if len(got.Units) != len(units) || got.Sysctls["net.ipv4.ip_forward"] != "1" {
		t.Errorf("units are %v, sysctls %v", got.Units, got.Sysctls)
	}
}

func TestParseObservationCutOff(t *testing.T) {
	for _, end := range []string{"[end]\n", "[sysctls]", "[digests]"} {
		cut, _, _ := strings.Cut(report, end)
		if _, err := parseObservation(cut, stack.HostState{}, newVocabulary()); err == nil || !strings.Contains(err.Error(), "incomplete") {
			t.Errorf("a report without %q gives error %v", end, err)
		}
	}
}

func FuzzParseObservation(f *testing.F) {
	f.Add(report)
	f.Add("[files]\nx\n[end]\n")
	f.Fuzz(func(t *testing.T, text string) {
		state, err := parseObservation(text, stack.HostState{}, newVocabulary())
		if err == nil && state.Files == nil {
			t.Error("no error and no state")
		}
	})
}

// The script runs under a plain sh, prints what the parser reads, and changes nothing.
func TestObserveScriptOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file with space")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	script := observeScript(stack.HostState{
		Sysctls: map[string]string{"kernel.ostype": ""}, Modules: map[string]bool{"none_of_that_name": true},
		Accounts: map[string]bool{"root": true, "none-of-that-name": true},
		Files:    map[string]stack.File{file: {}, filepath.Join(dir, "link"): {}, filepath.Join(dir, "missing"): {}},
	})
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	state, err := parseObservation(string(out), stack.HostState{}, newVocabulary())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	if f := state.Files[file]; f.Mode != 0o600 || f.Digest != stack.Digest([]byte("x")) {
		t.Errorf("the file is %+v", f)
	}
	if f := state.Files[filepath.Join(dir, "link")]; f.Mode.Type() != fs.ModeSymlink || f.Digest != "target" {
		t.Errorf("the link is %+v", f)
	}
	if !maps.Equal(state.Accounts, map[string]bool{"root": true}) {
		t.Errorf("accounts are %v", state.Accounts)
	}
	if len(state.Files) != 2 || len(state.Modules) != 0 || state.Sysctls["kernel.ostype"] != "Linux" || state.Facts.Kernel == "" {
		t.Errorf("the state is %+v", state)
	}
}

// A member without its log or its database is no data that a cluster could come up with.
func TestObserveTellsWholeEtcdDataFromDamaged(t *testing.T) {
	const wal, db = "member/wal/0000000000000000-0000000000000000.wal", "member/snap/db"
	for name, test := range map[string]struct {
		files          []string
		whole, damaged bool
	}{
		"nothing":           {},
		"other files":       {files: []string{"lost+found/x"}},
		"all":               {files: []string{wal, db}, whole: true},
		"no log":            {files: []string{db}, damaged: true},
		"an unfinished log": {files: []string{db, "member/wal/0.tmp"}, damaged: true},
		"no database":       {files: []string{wal}, damaged: true},
		"an empty member":   {files: []string{"member/snap/x"}, damaged: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range test.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "ETCD="+dir+"\n"+observeScript(stack.HostState{}))
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			state, err := parseObservation(string(out), stack.HostState{}, newVocabulary())
			if err != nil {
				t.Fatalf("%v in:\n%s", err, out)
			}
			if f := state.Facts; f.EtcdData != test.whole || f.EtcdDamaged != test.damaged {
				t.Errorf("whole %t, damaged %t; want %t, %t", f.EtcdData, f.EtcdDamaged, test.whole, test.damaged)
			}
		})
	}
}

func TestObserveNamesTheHostThatFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hosts := map[string]host.Host{"demo-cp-1": host.Local("demo-cp-1"), "demo-cp-2": host.Local("demo-cp-2")}
	_, err := Observe(ctx, hosts, stack.State{}, nil, 0)
	for name := range hosts {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error does not name %s: %v", name, err)
		}
	}
}

// TestStatusSaysWhyNot: a cluster is healthy exactly if there is no reason for the opposite, and each is said once.
func TestStatusSaysWhyNot(t *testing.T) {
	well := func() *Status {
		s := &Status{API: "ok", DNS: "ok"}
		for _, name := range []string{"cp", "worker"} {
			s.Machines = append(s.Machines, MachineStatus{
				Name: name, Role: spec.Worker, State: spec.MachineRunning, Units: map[string]string{"kubelet.service": "active/running"}, Node: &NodeStatus{Ready: true},
			})
		}
		s.Machines[0].Role, s.Machines[0].Etcd = spec.ControlPlane, &EtcdStatus{Healthy: true}
		return s
	}
	for name, test := range map[string]struct {
		spoil func(s *Status)
		want  []string
	}{
		"nothing":         {func(*Status) {}, nil},
		"somebody's wish": {func(s *Status) { s.Machines[1].Node.Taints = []string{"node.kubernetes.io/unschedulable:NoSchedule"} }, nil},
		"not installed":   {func(s *Status) { s.API, s.DNS = notInstalled, notInstalled }, []string{"Kubernetes is not installed"}},
		"API":             {func(s *Status) { s.API, s.DNS = "refused", notAsked }, []string{"API: refused"}},
		"DNS":             {func(s *Status) { s.DNS = "0 of 2" }, []string{"DNS: 0 of 2"}},
		"no machine":      {func(s *Status) { s.Machines[0] = MachineStatus{Name: "cp", State: machineMissing} }, []string{"cp: has no machine"}},
		"stopped":         {func(s *Status) { s.Machines[1] = MachineStatus{Name: "worker", State: "exited"} }, []string{"worker: its machine is exited"}},
		"unreachable":     {func(s *Status) { s.Machines[1].Error, s.Machines[1].Units = "no answer", nil }, []string{"worker: no answer"}},
		"surplus": {
			func(s *Status) { s.Machines[1].Surplus = true },
			[]string{"worker: is no longer in the spec: put it back, or remove the machine and run `kubectl delete node worker`"},
		},
		"a unit":   {func(s *Status) { s.Machines[1].Units["kubelet.service"] = "failed/failed" }, []string{"worker: not active: kubelet.service"}},
		"no units": {func(s *Status) { s.Machines[1].Units = nil }, []string{"worker: has none of slipway's units"}},
		"no node":  {func(s *Status) { s.Machines[1].Node = nil }, []string{"worker: the node is not in the API"}},
		"NotReady": {
			func(s *Status) { s.Machines[1].Node = &NodeStatus{Reason: "NetworkNotReady"} }, []string{"worker: the node is not Ready: NetworkNotReady"},
		},
		"trouble":   {func(s *Status) { s.Machines[1].Node.Trouble = []string{"DiskPressure"} }, []string{"worker: DiskPressure"}},
		"no member": {func(s *Status) { s.Machines[0].Etcd = nil }, []string{"cp: etcd was not queried"}},
		"a member":  {func(s *Status) { s.Machines[0].Etcd = &EtcdStatus{Error: "timeout"} }, []string{"cp: etcd: timeout"}},
		"an alarm":  {func(s *Status) { s.Machines[0].Etcd = &EtcdStatus{Alarms: []string{"NOSPACE"}} }, []string{"cp: etcd: alarm NOSPACE"}},
		"two": {
			func(s *Status) { s.Machines[0].Etcd, s.Machines[1].Node = &EtcdStatus{}, nil },
			[]string{"cp: etcd: the member is not healthy", "worker: the node is not in the API"},
		},
	} {
		s := well()
		test.spoil(s)
		s.judge([]string{"cp", "worker"})
		var got []string
		for _, r := range s.Reasons {
			got = append(got, r.String())
		}
		if !slices.Equal(got, test.want) || s.Healthy != (len(test.want) == 0) {
			t.Errorf("%s: healthy %t, since %q; want %q", name, s.Healthy, got, test.want)
		}
	}
	s := well()
	s.judge([]string{"another", "cp", "worker"})
	if s.Healthy || len(s.Reasons) != 1 || s.Reasons[0].Machine != "another" {
		t.Errorf("with a node that is not in the spec: %+v", s.Reasons)
	}
}

// TestStatusOfAnEndpointThatIsDown: a cluster whose API does not answer at its endpoint is not healthy.
func TestStatusOfAnEndpointThatIsDown(t *testing.T) {
	in := fixture.Input(t)
	for _, down := range []string{"", "balancer demo-balancer does not exist"} {
		s := GetStatus(t.Context(), in, &spec.Infrastructure{EndpointDown: down}, nil, nil)
		said := slices.ContainsFunc(s.Reasons, func(r Reason) bool {
			return r.Machine == "" && strings.HasSuffix(r.Text, "balancer demo-balancer does not exist")
		})
		if said != (down != "") || s.Healthy {
			t.Errorf("the endpoint is down since %q, and the reasons are %v", down, s.Reasons)
		}
	}
}
