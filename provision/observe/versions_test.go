package observe

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// TestUsersOfOldVersions: a process is found by the file that it runs, through a link or without, and
// so is a unit file that is not slipway's own.
func TestUsersOfOldVersions(t *testing.T) {
	root := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	place := func(at string) string {
		t.Helper()
		at = filepath.Join(root, at)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, text, 0o755); err != nil {
			t.Fatal(err)
		}
		return at
	}
	copied, idle, mounted := place("c/v1/bin/sleep"), place("c/v2/bin/sleep"), place("bundle/sleep")
	linked := filepath.Join(root, "c/v3/bin/sleep")
	if err := os.MkdirAll(filepath.Dir(linked), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mounted, linked); err != nil {
		t.Fatal(err)
	}
	units := filepath.Join(root, "units")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(root, "c/v4/bin/x")
	for unit, program := range map[string]string{"other.service": named, "kubelet.service": idle, "near.service": filepath.Join(root, "c/v22/bin/x")} {
		if err := os.WriteFile(filepath.Join(units, unit), []byte("ExecStart="+program+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for _, p := range []string{copied, linked} {
		cmd := exec.CommandContext(t.Context(), p, "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		pid := strconv.Itoa(cmd.Process.Pid)
		want = append(want, filepath.Dir(filepath.Dir(p))+"\t"+pid+"\tprocess "+pid+" (sleep)")
	}
	want = append(want, filepath.Join(root, "c/v4")+"\t-\t"+filepath.Join(units, "other.service"))
	script := "OLD='" + strings.Join([]string{copied, idle, linked, named, filepath.Join(root, "c/v5/bin/gone")}, "\n") + "'\n" +
		"OWN=" + filepath.Join(units, "kubelet.service") + "\nUNITS=" + units + "\n" + templates.VersionsScript() + "old_users\n"
	out, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSupersededIsObserved with its size and its users, without the main processes of units, which run
// from another version before it is removed.
func TestSupersededIsObserved(t *testing.T) {
	const dir = "/opt/slipway/etcd/v0"
	text := strings.Replace(report, "[units]", "[old]\nsize\t70\t"+dir+"/bin/etcd\nsize\t7\t"+dir+"/bin/etcdctl\n"+
		"used\t"+dir+"\t41\tprocess 41 (etcd)\nused\t"+dir+"\t9999\tprocess 9999 (shim)\nused\t/opt/slipway/etcd/v00\t8\tprocess 8 (x)\n[units]", 1)
	text = strings.Replace(text, "[files]\n", "[files]\nf\t755\troot:root\t100.5\t\t"+dir+"/bin/etcd\nf\t755\troot:root\t200.5\t\t"+dir+"/bin/etcdctl\n", 1)
	text = strings.Replace(text, "[owned]\n", "[owned]\nd\t"+dir+"/bin/etcd\ne\t"+dir+"/bin/etcdctl\n", 1)
	text = strings.Replace(text, "MainPID=", "MainPID=41\nOldPID=", 1)
	got, err := parseObservation(text, stack.HostState{Files: map[string]stack.File{"/opt/slipway/etcd/v1/bin/etcd": {Program: true}}}, newVocabulary())
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Facts.Superseded; len(s) != 1 || s[0].Dir != dir || s[0].Bytes != 77 || !slices.Equal(s[0].Users, []string{"process 9999 (shim)"}) ||
		s[0].Placed.Unix() != 200 || s[0].Files[dir+"/bin/etcd"] != "d" {
		t.Errorf("got %+v", s)
	}
}
