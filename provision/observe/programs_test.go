package observe

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/testing/fixture"
)

// look observes programs on this machine.
func look(t *testing.T, memo string, desired stack.HostState) stack.HostState {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "MEMO="+memo+"\n"+observeScript(desired)).Output()
	if err != nil {
		t.Fatal(err)
	}
	state, err := parseObservation(string(out), desired, newVocabulary())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	return state
}

// A program is read once, and again when it has changed; one that the operator's computer has read is not read at all.
func TestProgramsAreKnownByTheirContent(t *testing.T) {
	dir := t.TempDir()
	memo := filepath.Join(dir, "memo")
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	desired := stack.HostState{Files: map[string]stack.File{}}
	add := func(name, target, sum, identity string) string {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
		desired.Files[at] = stack.File{Mode: fs.ModeSymlink | 0o777, Digest: target, Program: true, Sum: sum, Identity: identity}
		return at
	}
	good := write("good file", "good")
	whole := add("a program", good, stack.Digest([]byte("good")), "")
	evil := add("evil", write("evil file", "evil"), stack.Digest([]byte("good")), "")
	read := write("mounted", "not read")
	mounted := add("same", read, stack.Digest([]byte("what the operator read")), bundle.Identity(read))
	gone := add("gone", filepath.Join(dir, "none"), stack.Digest(nil), "")
	elsewhere := add("elsewhere", good, stack.Digest(nil), "")
	f := desired.Files[elsewhere]
	f.Digest = "/another"
	desired.Files[elsewhere] = f

	check := func(what string, want map[string]string) {
		t.Helper()
		state := look(t, memo, desired)
		for at, sum := range want {
			if got := state.Files[at].Sum; got != sum {
				t.Errorf("%s: %s has %q, want %q", what, at, got, sum)
			}
		}
		if blind := state.Blind(); blind != gone {
			t.Errorf("%s: blind by %q", what, blind)
		}
	}
	want := map[string]string{
		whole: stack.Digest([]byte("good")), evil: stack.Digest([]byte("evil")), gone: stack.NoFile, elsewhere: "",
		mounted: stack.Digest([]byte("what the operator read")),
	}
	check("first", want)
	text, err := os.ReadFile(memo)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(memo); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(string(text), bundle.Identity(read)) {
		t.Errorf("the memo is %v, %v, and holds\n%s", info.Mode(), err, text)
	}

	// From the memo, and no further than the file is the same.
	remembered := strings.Repeat("7", 64)
	if err := os.WriteFile(memo, []byte(strings.ReplaceAll(string(text), stack.Digest([]byte("good")), remembered)), 0o600); err != nil {
		t.Fatal(err)
	}
	want[whole] = remembered
	check("remembered", want)
	info, err := os.Stat(good)
	if err != nil {
		t.Fatal(err)
	}
	for before := bundle.Identity(good); bundle.Identity(good) == before; { // until the file system's clock has ticked
		write("good file", "guud")
		if err := os.Chtimes(good, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	want[whole] = stack.Digest([]byte("guud"))
	check("changed", want)
}

// A program that was copied is known by the memo too, and what it is compared with is its content.
func TestCopiedProgramsAreKnownByTheirContent(t *testing.T) {
	dir := t.TempDir()
	memo, at := filepath.Join(dir, "memo"), filepath.Join(dir, "program")
	if err := os.WriteFile(at, []byte("good"), 0o700); err != nil {
		t.Fatal(err)
	}
	good := stack.Digest([]byte("good"))
	want := stack.File{Mode: 0o755, Owner: "root:root", Digest: good, Sum: good, Program: true, Size: 4}
	none := filepath.Join(dir, "none")
	desired := stack.HostState{Files: map[string]stack.File{at: want, none: want}}
	state := look(t, memo, desired)
	if f, there := state.Files[at]; !there || f.Digest != good || f.Sum != good || f.Mode != 0o700 || len(state.Files) != 1 || state.Blind() != "" {
		t.Errorf("got %+v", state.Files)
	}
	text, err := os.ReadFile(memo)
	if err != nil {
		t.Fatal(err)
	}
	remembered := strings.Repeat("7", 64)
	if err := os.WriteFile(memo, []byte(strings.ReplaceAll(string(text), good, remembered)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := look(t, memo, desired).Files[at]; f.Digest != remembered {
		t.Errorf("it was read again: %+v", f)
	}
	link := want // of a machine that sees the bundle now
	link.Mode, link.Digest = fs.ModeSymlink|0o777, "/bundles/program"
	desired.Files[at] = link
	if f := look(t, memo, desired).Files[at]; f.Digest != remembered || f.Sum != "" {
		t.Errorf("where a link should be: %+v", f)
	}
}

func TestDiffOfCopiedPrograms(t *testing.T) {
	const program, unit = "/opt/slipway/x/v1/bin/x", "x.service"
	want := stack.File{Mode: 0o755, Owner: "root:root", Digest: "aa", Sum: "aa", Program: true, Size: 7}
	desired := stack.State{Hosts: map[string]stack.HostState{"h": {
		Files: map[string]stack.File{program: want},
		Units: map[string]stack.Unit{unit: {Enabled: true, Active: true, Inputs: "i", Reads: []string{program}}},
	}}}
	file := func(mode fs.FileMode, owner, digest string) stack.File {
		return stack.File{Mode: mode, Owner: owner, Digest: digest, Sum: digest}
	}
	for name, test := range map[string]struct {
		have stack.File
		want []string
		copy int64
	}{
		"as it should be": {have: file(0o755, "root:root", "aa")},
		"other content":   {file(0o755, "root:root", "bb"), []string{"~ " + program, "^ " + unit}, 7},
		"other mode":      {file(0o700, "root:root", "aa"), []string{"~ " + program}, 0},
		"other owner":     {file(0o755, "alice:alice", "aa"), []string{"~ " + program}, 0},
		"a link":          {stack.File{Mode: fs.ModeSymlink | 0o777, Digest: "/bundles/x"}, []string{"~ " + program}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			observed := stack.State{Hosts: map[string]stack.HostState{"h": {
				Files: map[string]stack.File{program: test.have}, Owned: map[string]string{program: "aa"},
				Units: map[string]stack.Unit{unit: {Enabled: true, Active: true, Inputs: "i", State: "active/running"}},
			}}}
			var got []string
			var bytes int64
			for _, c := range plan.Diff(desired, observed) {
				got, bytes = append(got, string(c.Action)+" "+c.Name), bytes+c.Copy
			}
			if !slices.Equal(got, test.want) || bytes != test.copy {
				t.Errorf("%q and %d bytes, want %q and %d", got, bytes, test.want, test.copy)
			}
		})
	}
}

func TestDiffOfProgramsContents(t *testing.T) {
	const program, unit = "/opt/slipway/x/v1/bin/x", "x.service"
	link := stack.File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/bundles/x", Program: true, Sum: "aa"}
	desired := stack.State{Hosts: map[string]stack.HostState{"h": {
		Files: map[string]stack.File{program: link},
		Units: map[string]stack.Unit{unit: {Enabled: true, Active: true, Inputs: "i", Reads: []string{program}}},
	}}}
	for name, test := range map[string]struct {
		sum      string
		replaced bool
		want     []string
	}{
		"as it should be":                      {sum: "aa"},
		"not known":                            {sum: ""},
		"other content":                        {sum: "bb", want: []string{"~ " + program, "^ " + unit}},
		"repaired, and what it was still runs": {sum: "aa", replaced: true, want: []string{"^ " + unit}},
	} {
		t.Run(name, func(t *testing.T) {
			have := link
			have.Sum = test.sum
			observed := stack.State{Hosts: map[string]stack.HostState{"h": {
				Files: map[string]stack.File{program: have}, Owned: map[string]string{program: link.Digest},
				Units: map[string]stack.Unit{unit: {Enabled: true, Active: true, Inputs: "i", State: "active/running", Replaced: test.replaced}},
			}}}
			var got []string
			for _, c := range plan.Diff(desired, observed) {
				got = append(got, string(c.Action)+" "+c.Name)
				if c.Cause != plan.Drift {
					t.Errorf("%+v is no drift", c)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// A machine that lost sight of its bundle is refused: what is restarted there would not start again.
func TestABlindMachineIsRefused(t *testing.T) {
	in := fixture.Input(t)
	observed := stack.State{Hosts: map[string]stack.HostState{}}
	for _, m := range in.Machines {
		observed.Hosts[m.Name] = stack.HostState{Facts: stack.Facts{Systemd: true, Arch: "amd64", CgroupV2: true}}
	}
	if r := plan.Refuse(in, plan.Before{}, observed); len(r.Hosts) != 0 {
		t.Fatal(r)
	}
	name := in.Machines[0].Name
	h := observed.Hosts[name]
	h.Files = map[string]stack.File{"/opt/x": {Mode: fs.ModeSymlink, Program: true, Sum: stack.NoFile}}
	observed.Hosts[name] = h
	r := plan.Refuse(in, plan.Before{}, observed)
	if len(r.Hosts) != 1 || len(r.Hosts[name]) != 1 || !strings.Contains(r.Hosts[name][0], "/opt/x leads to nothing") {
		t.Errorf("%+v", r)
	}
}
