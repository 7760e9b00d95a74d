package converge

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
	"slipway.dev/slipway/testing/hosttest"
)

// The script for a first start gives orders and does not wait; late units stay behind; nothing that runs is restarted
// but what has to be.
func TestConvergeScript(t *testing.T) {
	unit := func(name string, action plan.Action) plan.Change {
		return plan.Change{Kind: plan.UnitChange, Name: name, Action: action}
	}
	file := func(name string, action plan.Action) plan.Change {
		return plan.Change{Kind: plan.FileChange, Name: name, Action: action}
	}
	tests := []struct {
		name    string
		changes []plan.Change
		first   bool
		want    []string
		not     []string
	}{
		{name: "nothing"},
		{name: "only the list of what is owned", changes: []plan.Change{file(stack.OwnedFile, plan.Update)}},
		{
			name: "first start", first: true,
			changes: []plan.Change{file(stack.UnitDir+"etcd.service", plan.Create), unit("etcd.service", plan.Create), unit("kubelet.service", plan.Create)},
			want:    []string{"systemctl daemon-reload", "systemctl enable --quiet etcd.service kubelet.service", "systemctl --no-block start etcd.service kubelet.service"},
			not:     []string{" restart "},
		},
		{
			name:    "a living host",
			changes: []plan.Change{unit("kubelet.service", plan.Restart), unit("kube-proxy.service", plan.Update)},
			want: []string{
				"systemctl start kube-proxy.service ||", "systemctl restart kubelet.service ||", "reset-failed kube-proxy.service",
				"systemctl daemon-reload\n", "systemctl enable --quiet kube-proxy.service kubelet.service",
			},
			not: []string{"--no-block"},
		},
		{
			name: "what etcd reads only when it begins", changes: []plan.Change{file(stack.UnitDir+stack.EtcdService, plan.Update)},
			want: []string{"systemctl daemon-reload\n"}, not: []string{"restart", "start " + stack.EtcdService, "systemd-run"},
		},
		{
			name: "an image that was removed", changes: []plan.Change{{Kind: plan.ImageChange, Name: "pause", Action: plan.Create}},
			want: []string{"systemctl restart slipway-images.service"},
		},
		{
			name:    "images of another name are there before what asks for them",
			changes: []plan.Change{unit("containerd.service", plan.Restart), unit(stack.KubeletService, plan.Restart), unit(stack.ImagesService, plan.Restart)},
			want:    []string{"systemctl restart slipway-images.service\nsystemctl restart containerd.service kubelet.service ||"},
		},
		{
			name: "a module that was unloaded", changes: []plan.Change{{Kind: plan.ModuleChange, Name: "overlay", Action: plan.Create}},
			want: []string{"modprobe"},
		},
		{
			name: "etcd is tried before it is stopped", changes: []plan.Change{unit(stack.EtcdService, plan.Restart), unit("kube-apiserver.service", plan.Restart)},
			want: []string{"chmod go+rx", "/v1/etcd --version'", "exit 1; }\nsystemctl daemon-reload\n"},
		},
		{
			name: "etcd that nothing runs without yet", first: true, changes: []plan.Change{unit(stack.EtcdService, plan.Create)},
			want: []string{"chmod go+rx"}, not: []string{"systemd-run"},
		},
		{
			name:    "what leaves",
			changes: []plan.Change{unit("flanneld.service", plan.Delete), file(stack.UnitDir+"flanneld.service", plan.Delete), file("/etc/it's", plan.Delete)},
			want:    []string{"systemctl disable --now flanneld.service || for u in flanneld.service;", "rm -f -- '/etc/systemd/system/flanneld.service'", `rm -f -- '/etc/it'\''s'`, "daemon-reload"},
		},
		{
			name:    "kernel",
			changes: []plan.Change{{Kind: plan.SysctlChange, Name: "net.ipv4.ip_forward", Action: plan.Update}, file("/etc/modules-load.d/slipway.conf", plan.Update)},
			want:    []string{"systemd-sysctl 90-slipway.conf", "modprobe"},
		},
	}
	tried := stack.HostState{
		Units: map[string]stack.Unit{stack.EtcdService: {Reads: []string{stack.UnitDir + stack.EtcdService, stack.ProgramDir + "v1/etcd"}}},
		Files: map[string]stack.File{stack.UnitDir + stack.EtcdService: {Content: []byte("\nUser=etcd\n")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := convergeScript(tt.changes, tried, tt.first)
			if len(tt.want) == 0 && got != "" {
				t.Errorf("there is nothing to do, and the script is:\n%s", got)
			}
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("the script lacks %q:\n%s", w, got)
				}
			}
			for _, n := range tt.not {
				if strings.Contains(got, n) {
					t.Errorf("the script has %q:\n%s", n, got)
				}
			}
		})
	}
}

// Applying the difference to an empty host gives what was desired, and a second difference is empty: what Diff asks for
// is what converge writes.
func TestConvergeReachesTheDesiredFiles(t *testing.T) {
	want := fixture.Desired(t, fixture.Input(t)).Hosts["demo-cp-1"]
	h := hosttest.NewMemory("demo-cp-1")
	changes := plan.Diff(stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": want}}, stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": {}}})
	var install []plan.Change
	for _, c := range changes {
		if c.Name != stack.InitializedFile { // which has a step of its own
			install = append(install, c)
		}
	}
	if err := converge(t.Context(), h, want, stack.HostState{}, install, true); err != nil {
		t.Fatal(err)
	}
	have := stack.HostState{Files: map[string]stack.File{}, Units: want.Units, Sysctls: want.Sysctls, Accounts: want.Accounts, Images: want.Images}
	for _, p := range h.Paths() {
		f, _ := h.File(p)
		seen := stack.File{Mode: f.Mode, Owner: f.Owner, Digest: stack.Digest(f.Content)}
		if f.Mode.Type() == fs.ModeSymlink {
			seen.Digest = string(f.Content)
		}
		have.Files[p] = seen
	}
	left := plan.Diff(stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": want}}, stack.State{Hosts: map[string]stack.HostState{"demo-cp-1": have}})
	if len(left) != 1 || left[0].Name != stack.InitializedFile {
		t.Errorf("after converging, this is left besides the seal: %v", left)
	}
}

// Ownership is on the host before the file that it is of, and lists what is about to be deleted until that is gone.
func TestConvergeOwnsBeforeItWrites(t *testing.T) {
	want := stack.HostState{Files: map[string]stack.File{"/new": stack.Regular([]byte("x"), false, "")}}
	want.Files[stack.OwnedFile] = stack.Regular(stack.Ownership(want.Files), false, "")
	have := stack.HostState{Files: map[string]stack.File{"/old": {Mode: 0o644}}, Owned: map[string]string{"/old": "o"}}
	changes := plan.Diff(stack.State{Hosts: map[string]stack.HostState{"h": want}}, stack.State{Hosts: map[string]stack.HostState{"h": have}})

	h := hosttest.NewMemory("h")
	var first string
	h.OnWrite(func(files []host.File) error {
		if first == "" {
			first = files[0].Path
		}
		return nil
	})
	h.On("rm -f", hosttest.Answer{Err: errRun})
	if err := converge(t.Context(), h, want, have, changes, false); !errors.Is(err, errRun) {
		t.Fatalf("error is %v", err)
	}
	if f, _ := h.File(stack.OwnedFile); !strings.Contains(string(f.Content), "\t/new\n") || !strings.Contains(string(f.Content), "o\t/old\n") {
		t.Errorf("interrupted before the deletion, the host owns:\n%s", f.Content)
	}
	if first != stack.OwnedFile {
		t.Errorf("the first file written is %s", first)
	}

	h.On("rm -f", hosttest.Answer{})
	if err := converge(t.Context(), h, want, have, changes, false); err != nil {
		t.Fatal(err)
	}
	if f, _ := h.File(stack.OwnedFile); string(f.Content) != stack.Digest([]byte("x"))+"\t/new\n\t"+stack.OwnedFile+"\n" {
		t.Errorf("in the end the host owns:\n%s", f.Content)
	}
}

// What was recorded as owned and never came to be written, since an earlier run was cut off, is not on the list in the end,
// although nothing has to be deleted.
func TestConvergeForgetsWhatNeverCame(t *testing.T) {
	want := stack.HostState{Files: map[string]stack.File{"/new": stack.Regular([]byte("x"), false, "")}}
	want.Files[stack.OwnedFile] = stack.Regular(stack.Ownership(want.Files), false, "")
	have := stack.HostState{Owned: map[string]string{"/never": "o"}}
	changes := plan.Diff(stack.State{Hosts: map[string]stack.HostState{"h": want}}, stack.State{Hosts: map[string]stack.HostState{"h": have}})
	h := hosttest.NewMemory("h")
	if err := converge(t.Context(), h, want, have, changes, false); err != nil {
		t.Fatal(err)
	}
	if f, _ := h.File(stack.OwnedFile); string(f.Content) != string(want.Files[stack.OwnedFile].Content) {
		t.Errorf("in the end the host owns:\n%s", f.Content)
	}
}

var errRun = errors.New("cut off")

func TestUnitsUpNamesWhatIsDown(t *testing.T) {
	h := hosttest.NewMemory("h")
	h.On("until ", hosttest.Answer{Err: errRun})
	h.On("journalctl", hosttest.Answer{Stdout: "etcd.service is failed:\nno space"})
	err := unitsUp(t.Context(), h, map[string]stack.Unit{"etcd.service": {}}, func(string) {})
	if !errors.Is(err, errRun) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("error is %v", err)
	}
}
