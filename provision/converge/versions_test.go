package converge

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// TestOldVersionsAreRemoved: the files that slipway owned, and its directories unless something else is
// there. A version that something runs from stays, with its record, and that is told.
func TestOldVersionsAreRemoved(t *testing.T) {
	h := newRooted(t, "host")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	var all []stack.Version
	for _, v := range []string{"v1", "v2", "v3", "v4"} {
		dir := stack.ProgramDir + "one/" + v
		for _, name := range []string{"one", "it's two"} {
			at := h.below(dir + "/bin/" + name)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, program, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, stack.Version{Dir: dir, Files: map[string]string{dir + "/bin/one": "1", dir + "/bin/it's two": "2"}})
	}
	others := h.below(stack.ProgramDir + "one/v2/bin/of-another")
	if err := os.WriteFile(others, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), h.below(stack.ProgramDir+"one/v3/bin/it's two"), "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var told []string
	want := map[string]stack.File{"/etc/x": {Digest: "x"}}
	r := &Runner{View: View{
		Hosts:    map[string]host.Host{"host": h},
		Desired:  stack.State{Hosts: map[string]stack.HostState{"host": {Files: want}}},
		Observed: stack.State{Hosts: map[string]stack.HostState{"host": {Facts: stack.Facts{Superseded: all}}}},
	}, Note: func(text string) { told = append(told, text) }}
	step := plan.Step{Host: "host", Verb: plan.RemoveVersions}
	for _, v := range all[:3] {
		step.Changes = append(step.Changes, plan.Change{Host: "host", Kind: plan.VersionChange, Action: plan.Delete, Name: v.Dir})
	}
	for range 2 { // as after a lost connection
		if err := r.removeVersions(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(h.below(stack.ProgramDir + "one/*/bin/*"))
	for i, p := range left {
		left[i] = strings.TrimPrefix(p, h.root)
	}
	if expected := []string{
		"/opt/slipway/one/v2/bin/of-another", "/opt/slipway/one/v3/bin/it's two", "/opt/slipway/one/v3/bin/one",
		"/opt/slipway/one/v4/bin/it's two", "/opt/slipway/one/v4/bin/one",
	}; !slices.Equal(left, expected) {
		t.Errorf("left are %q", left)
	}
	if _, err := os.Stat(h.below(stack.ProgramDir + "one/v1")); !os.IsNotExist(err) {
		t.Errorf("the empty directory: %v", err)
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "/opt/slipway/one/v3 stays on host: it is used by process ") {
		t.Errorf("it told %q", told)
	}
	record := maps.Clone(want)
	for _, v := range all[2:] {
		for p, digest := range v.Files {
			record[p] = stack.File{Digest: digest}
		}
	}
	if got := string(h.read(t, stack.OwnedFile)); got != string(stack.Ownership(record)) {
		t.Errorf("recorded is\n%s", got)
	}
	step.Changes = []plan.Change{{Kind: plan.VersionChange, Action: plan.Delete, Name: "/etc"}}
	if err := r.removeVersions(t.Context(), step); err == nil || !strings.Contains(err.Error(), "was not observed") {
		t.Errorf("something else: %v", err)
	}
}

// TestOldVersionsStayIfTheirUseIsUnknown: nothing is removed if find(1) does not say what runs.
func TestOldVersionsStayIfTheirUseIsUnknown(t *testing.T) {
	dir, tools := t.TempDir(), t.TempDir()
	program := filepath.Join(dir, "bin", "one")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{program: "", filepath.Join(tools, "find"): "#!/bin/sh\nexit 1\n"} {
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Env = []string{"PATH=" + tools + ":" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(removeScript([]stack.Version{{Dir: dir, Files: map[string]string{program: "1"}}}))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nothing was removed") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(program); err != nil {
		t.Error(err)
	}
}
