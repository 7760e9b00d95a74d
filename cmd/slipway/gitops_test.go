package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// workflow is what these tests look at in a workflow of GitHub Actions.
type workflow struct {
	Name        string            `yaml:"name"`
	On          map[string]any    `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Defaults    struct {
		Run struct {
			Shell string `yaml:"shell"`
		} `yaml:"run"`
	} `yaml:"defaults"`
	Jobs map[string]struct {
		If    string `yaml:"if"`
		Steps []struct {
			Uses string `yaml:"uses"`
			Run  string `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// TestGitOpsWorkflows: the examples are workflows, and every slipway command line in them is one.
func TestGitOpsWorkflows(t *testing.T) {
	commands := map[string][]string{}
	for _, name := range []string{"plan", "apply", "drift"} {
		text, err := os.ReadFile(filepath.Join("../../examples/gitops", name+".yml"))
		if err != nil {
			t.Fatal(err)
		}
		var w workflow
		if err := yaml.Unmarshal(text, &w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Without its pipefail a failed plan would be an empty one.
		if w.Name != name || len(w.On) == 0 || len(w.Jobs) == 0 || w.Permissions["contents"] != "read" || w.Defaults.Run.Shell != "bash" {
			t.Errorf("%s is %+v", name, w)
		}
		if _, ok := w.On["pull_request_target"]; ok {
			t.Errorf("%s runs what a stranger sends, with our secrets", name)
		}
		for job, j := range w.Jobs {
			if _, ok := w.On["pull_request"]; ok && !strings.Contains(j.If, "head.repo.full_name == github.repository") {
				t.Errorf("%s: job %s runs for forks", name, job)
			}
			for _, s := range j.Steps {
				if (s.Uses == "") == (s.Run == "") || strings.Contains(s.Uses, "upload-artifact") || strings.Contains(s.Run, "${{") {
					t.Errorf("%s: job %s has the step %+v", name, job, s)
				}
				for _, args := range slipwayLines(s.Run) {
					commands[name] = append(commands[name], checkCommandLine(t, args))
				}
			}
		}
	}
	for name, want := range map[string][]string{
		"plan":  {"validate", "plan"},
		"apply": {"apply", "apply", "plan", "plan", "plan", "status"},
		"drift": {"plan", "status", "certs status"},
	} {
		got := commands[name]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s runs %q, want %q", name, got, want)
		}
	}
}

// TestCommandLinesOfDocuments: what documents tell people to run is a command line of slipway's.
func TestCommandLinesOfDocuments(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file) // #nosec G304 -- a document of this repository
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(text), "\n```") {
			if i%2 == 0 || !strings.HasPrefix(block, "sh\n") {
				continue
			}
			for _, args := range slipwayLines(block) {
				t.Run(filepath.Base(file), func(t *testing.T) { checkCommandLine(t, args) })
			}
		}
	}
}

// slipwayLines finds the commands of slipway in a script: their arguments, as far as a shell would pass them on. It knows as
// much of a shell as the examples need.
func slipwayLines(script string) [][]string {
	var all [][]string
	for line := range strings.Lines(strings.ReplaceAll(script, "\\\n", " ")) {
		line, _, _ = strings.Cut(" "+line, " #")
		var args []string
		in := false
		for _, word := range strings.Fields(strings.NewReplacer("$(", " $( ", ")", " ) ", ";", " ; ", ">", " > ").Replace(line)) {
			switch {
			case strings.ContainsAny(word[:1], "|&;<>)"):
				if in {
					all = append(all, args)
				}
				args, in = nil, false
			case word == "slipway" || word == "bin/slipway":
				in = true
			case in:
				args = append(args, strings.Trim(word, `"'`))
			}
		}
		if in {
			all = append(all, args)
		}
	}
	return all
}

// checkCommandLine wants a command that is there, with flags and arguments that it takes, and returns its name.
func checkCommandLine(t *testing.T, args []string) string {
	t.Helper()
	a := &app{}
	cmd, rest, err := newRoot(a).Find(args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil {
		err = a.checkOutput(cmd)
	}
	if err != nil || !cmd.Runnable() {
		t.Errorf("slipway %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimPrefix(cmd.CommandPath(), "slipway ")
}

// TestSlipwayLines: a test of what finds the commands, which would else find none and be content.
func TestSlipwayLines(t *testing.T) {
	script := "slipway plan -o \"$A\" >x || code=$?\n# slipway no\nn=$(slipway plan --output json | jq .) # slipway no\nslipway ssh a \\\n  -- df\necho slipway-x\n"
	want := [][]string{{"plan", "-o", "$A"}, {"plan", "--output", "json"}, {"ssh", "a", "--", "df"}}
	got := slipwayLines(script)
	if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("found %q, want %q", got, want)
	}
	probe := &testing.T{}
	for _, line := range []string{"plan --outptu json", "plna", "plan x", "status --output markdown", "certs"} {
		if checkCommandLine(probe, strings.Fields(line)); !probe.Failed() {
			t.Errorf("%q passes", line)
		}
		probe = &testing.T{}
	}
}
