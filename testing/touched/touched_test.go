package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestImportersAreTouchedUpToWideOnes(t *testing.T) {
	p := packages{imports: map[string][]string{
		"provision/etcd":     nil,
		"provision/observe":  {"provision/live"},
		"provision/live":     {"provision/etcd", "provision/stack"},
		"provision/converge": {"provision/observe", "provision/etcd"}, // wide
		"provision/stack":    nil,                                     // wide
	}}
	for dir, want := range map[string][][]string{
		"provision/etcd":     {table["provision/etcd"].tests, table["provision/live"].tests, table["provision/observe"].tests},
		"provision/observe":  {table["provision/observe"].tests},
		"provision/stack":    {table["provision/stack"].tests},
		"provision/converge": {table["provision/converge"].tests},
	} {
		if got, want := p.reached(dir), sorted(want...); !slices.Equal(got, want) {
			t.Errorf("%s touches %v, want %v", dir, got, want)
		}
	}
}

func sorted(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

func TestCausesNamePackagesOnce(t *testing.T) {
	p := packages{tests: map[string][]string{"testing/e2e/some_test.go": {survival}}}
	changed := []string{"templates/a", "templates/b", "testing/e2e/some_test.go", "go.sum", "README.md", "provision/rotate/rotate.go"}
	if got, want := p.causes(survival, changed), []string{"go.sum", "templates", "testing/e2e/some_test.go"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFit(t *testing.T) {
	passed := map[string]pass{"a": {seconds: 240}, "b": {seconds: 100}, "c": {seconds: 200}, "d": {seconds: 60}, "e": {seconds: 150}}
	for _, tt := range []struct {
		name    string
		tests   []string
		minutes int
		chosen  []string
		left    []string
	}{
		{"without a limit all are chosen", []string{"a", "new"}, -1, []string{"a", "new"}, nil},
		{"one alone may take all the time", []string{"a"}, 4, []string{"a"}, nil},
		{"one alone may not take longer", []string{"a"}, 3, nil, []string{"a"}},
		{"two at a time, and a shorter one where a longer one does not fit", []string{"a", "b", "c", "d"}, 4, []string{"a", "b", "d"}, []string{"c"}},
		{"what has never passed takes long", []string{"new", "d"}, 19, []string{"d"}, []string{"new"}},
		{"what comes after another counts whole", []string{"c", "b", "e"}, 4, []string{"c", "b"}, []string{"e"}},
		{"there is no time", []string{"d"}, 0, nil, []string{"d"}},
		{"nothing is touched", nil, 4, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chosen, left := fit(tt.tests, passed, tt.minutes)
			if !slices.Equal(chosen, tt.chosen) || !slices.Equal(left, tt.left) {
				t.Errorf("chosen %v, left %v; want %v and %v", chosen, left, tt.chosen, tt.left)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	if got := pattern([]string{survival, killed}); got != "^(TestLongKilled|TestLongSurvival)$" {
		t.Error(got)
	}
}

func TestPassedIsReadAsWritten(t *testing.T) {
	want := map[string]pass{survival: {"abc", 60}, killed: {"def", 7}}
	with := maps.Clone(want)
	with["TestLongGone"] = pass{"abc", 5} // no longer a test
	got, err := parsePassed(formatPassed(with))
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if _, err := parsePassed("TestLongKilled abc\n"); err == nil || !strings.Contains(err.Error(), passedFile) {
		t.Errorf("a line without seconds: %v", err)
	}
}

func TestReadRun(t *testing.T) {
	event := func(action, test, output string) string {
		return `{"Action":"` + action + `","Package":"p","Test":"` + test + `","Output":"` + output + `"}` + "\n"
	}
	run := event("output", killed, "    turns_test.go:44: worked for 61s\\n") + event("pass", killed, "") +
		event("output", survival, "worked for 99s") + event("fail", survival, "") +
		event("output", "TestCluster", "worked for 5s") + event("pass", "TestCluster", "") +
		event("skip", rotation, "") + event("pass", killed+"/files", "")
	got, err := readRun(strings.NewReader(run))
	if want := map[string]int{killed: 61}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if _, err := readRun(strings.NewReader(event("pass", killed, ""))); err == nil {
		t.Error("a test that does not say how long it worked is taken")
	}
}

// scratch is a repository with one commit.
func scratch(t *testing.T) (at *tree, commit string) {
	t.Helper()
	at = &tree{root: t.TempDir()}
	git(t, at, "init", "-q")
	for _, name := range []string{"kept.go", "edited.go", "removed.go", passedFile} {
		put(t, at, name, name)
	}
	return at, commitAll(t, at)
}

func put(t *testing.T, at *tree, name, text string) {
	t.Helper()
	file := filepath.Join(at.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, at *tree, args ...string) string {
	t.Helper()
	out, err := output(at.root, "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func commitAll(t *testing.T, at *tree) string {
	t.Helper()
	git(t, at, "add", "-A")
	git(t, at, "commit", "-q", "-m", "x")
	return git(t, at, "rev-parse", "HEAD")
}

func TestChanged(t *testing.T) {
	at, commit := scratch(t)
	put(t, at, "edited.go", "other")
	commitAll(t, at)
	if err := os.Remove(filepath.Join(at.root, "removed.go")); err != nil {
		t.Fatal(err)
	}
	put(t, at, "new/new.go", "new")
	got, err := at.changed(commit)
	if want := []string{"edited.go", "removed.go", "new/new.go"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("changed are %v (%v), want %v", got, err, want)
	}
	if !at.has(commit) || at.has(strings.Repeat("0", 40)) {
		t.Error("the commit is not there, or one that is not is")
	}
	if _, err := at.changed("no-such-commit"); err == nil || !strings.Contains(err.Error(), "no-such-commit") {
		t.Errorf("of a commit that is not there: %v", err)
	}
}

func TestRecord(t *testing.T) {
	at, commit := scratch(t)
	run := filepath.Join(t.TempDir(), "run.json")
	events := `{"Action":"output","Test":"` + killed + `","Output":"worked for 61s"}` + "\n" + `{"Action":"pass","Test":"` + killed + `"}`
	if err := os.WriteFile(run, []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	old := map[string]pass{survival: {"0123", 5}}
	var said bytes.Buffer
	if err := at.record(&said, maps.Clone(old), run); err != nil {
		t.Fatal(err)
	}
	want := map[string]pass{survival: {"0123", 5}, killed: {commit, 61}}
	if got, err := at.passed(); err != nil || !maps.Equal(got, want) || said.Len() > 0 {
		t.Errorf("recorded %v (%v, %s), want %v", got, err, &said, want)
	}
	// passed.txt has changed, which does not matter; a file of the sources has, which does.
	put(t, at, "edited.go", "other")
	if err := at.record(&said, maps.Clone(old), run); err != nil || !strings.Contains(said.String(), "not recorded") {
		t.Errorf("with a change that is in no commit: %v, %q", err, &said)
	}
	if got, err := at.passed(); err != nil || !maps.Equal(got, want) {
		t.Errorf("and recorded %v (%v)", got, err)
	}
}
