package provision

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// The script for a first start gives orders and does not wait; late units stay behind; nothing that runs is restarted
// but what has to be.
func TestConvergeScript(t *testing.T) {
	unit := func(name string, action Action) Change { return Change{Kind: UnitChange, Name: name, Action: action} }
	file := func(name string, action Action) Change { return Change{Kind: FileChange, Name: name, Action: action} }
	tests := []struct {
		name    string
		changes []Change
		first   bool
		want    []string
		not     []string
	}{
		{name: "nothing"},
		{name: "only the list of what is owned", changes: []Change{file(ownedFile, Update)}},
		{
			name: "first start", first: true,
			changes: []Change{file(unitDir+"etcd.service", Create), unit("etcd.service", Create), unit("kubelet.service", Create)},
			want:    []string{"systemctl daemon-reload", "systemctl enable --quiet etcd.service kubelet.service", "systemctl --no-block start etcd.service kubelet.service"},
			not:     []string{" restart "},
		},
		{
			name:    "a living host",
			changes: []Change{unit("kubelet.service", Restart), unit("kube-proxy.service", Update)},
			want: []string{
				"systemctl start kube-proxy.service ||", "systemctl restart kubelet.service ||", "reset-failed kube-proxy.service",
				"systemctl daemon-reload\n", "systemctl enable --quiet kube-proxy.service kubelet.service",
			},
			not: []string{"--no-block"},
		},
		{
			name: "an image that was removed", changes: []Change{{Kind: ImageChange, Name: "pause", Action: Create}},
			want: []string{"systemctl restart slipway-images.service"},
		},
		{
			name:    "images of another name are there before what asks for them",
			changes: []Change{unit("containerd.service", Restart), unit(kubeletService, Restart), unit(imagesService, Restart)},
			want:    []string{"systemctl restart slipway-images.service\nsystemctl restart containerd.service kubelet.service ||"},
		},
		{
			name: "a module that was unloaded", changes: []Change{{Kind: ModuleChange, Name: "overlay", Action: Create}},
			want: []string{"modprobe"},
		},
		{
			name: "etcd is tried before it is stopped", changes: []Change{unit(etcdService, Restart), unit("kube-apiserver.service", Restart)},
			want: []string{"chmod go+rx", "/v1/etcd --version'", "exit 1; }\nsystemctl daemon-reload\n"},
		},
		{
			name: "etcd that nothing runs without yet", first: true, changes: []Change{unit(etcdService, Create)},
			want: []string{"chmod go+rx"}, not: []string{"systemd-run"},
		},
		{
			name:    "what leaves",
			changes: []Change{unit("flanneld.service", Delete), file(unitDir+"flanneld.service", Delete), file("/etc/it's", Delete)},
			want:    []string{"systemctl disable --now flanneld.service", "rm -f -- '/etc/systemd/system/flanneld.service'", `rm -f -- '/etc/it'\''s'`, "daemon-reload"},
		},
		{
			name:    "kernel",
			changes: []Change{{Kind: SysctlChange, Name: "net.ipv4.ip_forward", Action: Update}, file("/etc/modules-load.d/slipway.conf", Update)},
			want:    []string{"systemd-sysctl 90-slipway.conf", "modprobe"},
		},
	}
	tried := HostState{
		Units: map[string]Unit{etcdService: {Reads: []string{unitDir + etcdService, programDir + "v1/etcd"}}},
		Files: map[string]File{unitDir + etcdService: {Content: []byte("\nUser=etcd\n")}},
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
	want := desired(t, input(t)).Hosts["demo-cp-1"]
	h := hosttest.NewMemory("demo-cp-1")
	changes := Diff(State{Hosts: map[string]HostState{"demo-cp-1": want}}, State{Hosts: map[string]HostState{"demo-cp-1": {}}})
	var install []Change
	for _, c := range changes {
		if c.Name != initializedFile { // which has a step of its own
			install = append(install, c)
		}
	}
	if err := converge(t.Context(), h, want, HostState{}, install, true); err != nil {
		t.Fatal(err)
	}
	have := HostState{Files: map[string]File{}, Units: want.Units, Sysctls: want.Sysctls, Accounts: want.Accounts, Images: want.Images}
	for _, p := range h.Paths() {
		f, _ := h.File(p)
		seen := File{Mode: f.Mode, Owner: f.Owner, Digest: digest(f.Content)}
		if f.Mode.Type() == fs.ModeSymlink {
			seen.Digest = string(f.Content)
		}
		have.Files[p] = seen
	}
	left := Diff(State{Hosts: map[string]HostState{"demo-cp-1": want}}, State{Hosts: map[string]HostState{"demo-cp-1": have}})
	if len(left) != 1 || left[0].Name != initializedFile {
		t.Errorf("after converging, this is left besides the seal: %v", left)
	}
}

// Ownership is on the host before the file that it is of, and lists what is about to be deleted until that is gone.
func TestConvergeOwnsBeforeItWrites(t *testing.T) {
	want := HostState{Files: map[string]File{"/new": regular([]byte("x"), false, "")}}
	want.Files[ownedFile] = regular(owned(want.Files), false, "")
	have := HostState{Files: map[string]File{"/old": {Mode: 0o644}}, Owned: map[string]string{"/old": "o"}}
	changes := Diff(State{Hosts: map[string]HostState{"h": want}}, State{Hosts: map[string]HostState{"h": have}})

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
	if f, _ := h.File(ownedFile); !strings.Contains(string(f.Content), "\t/new\n") || !strings.Contains(string(f.Content), "o\t/old\n") {
		t.Errorf("interrupted before the deletion, the host owns:\n%s", f.Content)
	}
	if first != ownedFile {
		t.Errorf("the first file written is %s", first)
	}

	h.On("rm -f", hosttest.Answer{})
	if err := converge(t.Context(), h, want, have, changes, false); err != nil {
		t.Fatal(err)
	}
	if f, _ := h.File(ownedFile); string(f.Content) != digest([]byte("x"))+"\t/new\n\t"+ownedFile+"\n" {
		t.Errorf("in the end the host owns:\n%s", f.Content)
	}
}

var errRun = errors.New("cut off")

func TestUnitsUpNamesWhatIsDown(t *testing.T) {
	h := hosttest.NewMemory("h")
	h.On("until ", hosttest.Answer{Err: errRun})
	h.On("journalctl", hosttest.Answer{Stdout: "etcd.service is failed:\nno space"})
	err := unitsUp(t.Context(), h, map[string]Unit{"etcd.service": {}})
	if !errors.Is(err, errRun) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("error is %v", err)
	}
}
