package provision

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
)

// look observes programs on this machine.
func look(t *testing.T, memo string, desired HostState) HostState {
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
	desired := HostState{Files: map[string]File{}}
	add := func(name, target, sum, identity string) string {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
		desired.Files[at] = File{Mode: fs.ModeSymlink | 0o777, Digest: target, Program: true, Sum: sum, Identity: identity}
		return at
	}
	good := write("good file", "good")
	whole := add("a program", good, digest([]byte("good")), "")
	evil := add("evil", write("evil file", "evil"), digest([]byte("good")), "")
	read := write("mounted", "not read")
	mounted := add("same", read, digest([]byte("what the operator read")), bundle.Identity(read))
	gone := add("gone", filepath.Join(dir, "none"), digest(nil), "")
	elsewhere := add("elsewhere", good, digest(nil), "")
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
		if blind := state.blind(); blind != gone {
			t.Errorf("%s: blind by %q", what, blind)
		}
	}
	want := map[string]string{
		whole: digest([]byte("good")), evil: digest([]byte("evil")), gone: noFile, elsewhere: "",
		mounted: digest([]byte("what the operator read")),
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
	if err := os.WriteFile(memo, []byte(strings.ReplaceAll(string(text), digest([]byte("good")), remembered)), 0o600); err != nil {
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
	want[whole] = digest([]byte("guud"))
	check("changed", want)
}

func TestDiffOfProgramsContents(t *testing.T) {
	const program, unit = "/opt/slipway/x/v1/bin/x", "x.service"
	link := File{Mode: fs.ModeSymlink | 0o777, Owner: "root:root", Digest: "/bundles/x", Program: true, Sum: "aa"}
	desired := State{Hosts: map[string]HostState{"h": {
		Files: map[string]File{program: link},
		Units: map[string]Unit{unit: {Enabled: true, Active: true, Inputs: "i", Reads: []string{program}}},
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
			observed := State{Hosts: map[string]HostState{"h": {
				Files: map[string]File{program: have}, Owned: map[string]string{program: link.Digest},
				Units: map[string]Unit{unit: {Enabled: true, Active: true, Inputs: "i", State: "active/running", Replaced: test.replaced}},
			}}}
			var got []string
			for _, c := range Diff(desired, observed) {
				got = append(got, string(c.Action)+" "+c.Name)
				if c.Cause != Drift {
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
	in := input(t)
	observed := State{Hosts: map[string]HostState{}}
	for _, m := range in.Machines {
		observed.Hosts[m.Name] = HostState{Facts: Facts{Systemd: true, Arch: "amd64", CgroupV2: true}}
	}
	if r := Refuse(in, Before{}, observed); len(r.Hosts) != 0 {
		t.Fatal(r)
	}
	name := in.Machines[0].Name
	h := observed.Hosts[name]
	h.Files = map[string]File{"/opt/x": {Mode: fs.ModeSymlink, Program: true, Sum: noFile}}
	observed.Hosts[name] = h
	r := Refuse(in, Before{}, observed)
	if len(r.Hosts) != 1 || len(r.Hosts[name]) != 1 || !strings.Contains(r.Hosts[name][0], "/opt/x leads to nothing") {
		t.Errorf("%+v", r)
	}
}
