package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const heading = `# When each long end-to-end test last passed: its name, the commit, and for how many seconds it worked.
# make e2e-all and make e2e-touched write this file, if the tests ran on a commit without other changes.
`

// record adds what passed in a run of now.
func (t *tree) record(stderr io.Writer, passed map[string]pass, file string) error {
	dirty, err := output(t.root, "git", "status", "--porcelain", "--untracked-files=all", "--", ".", ":!"+passedFile)
	if err != nil {
		return err
	}
	if dirty != "" {
		say(stderr, "not recorded in %s: there are changes that are in no commit\n", passedFile)
		return nil
	}
	commit, err := output(t.root, "git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	run, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = run.Close() }()
	worked, err := readRun(run)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for test, seconds := range worked {
		passed[test] = pass{commit: strings.TrimSpace(commit), seconds: seconds}
	}
	return os.WriteFile(filepath.Join(t.root, passedFile), []byte(formatPassed(passed)), 0o644)
}

// formatPassed has only tests that there are.
func formatPassed(passed map[string]pass) string {
	text := heading
	for _, test := range slices.Sorted(slices.Values(long)) {
		if p, ok := passed[test]; ok {
			text += fmt.Sprintf("%s %s %d\n", test, p.commit, p.seconds)
		}
	}
	return text
}

// worked is what a test of testing/e2e says at its end: what go test measures has the wait for its turn in it.
var worked = regexp.MustCompile(`worked for (\d+)s`)

// readRun reads the events of go test -json: the long tests that passed, and for how many seconds they worked.
func readRun(events io.Reader) (map[string]int, error) {
	seconds, passed := map[string]int{}, map[string]int{}
	for decoder := json.NewDecoder(events); ; {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			return passed, nil
		} else if err != nil {
			return nil, err
		}
		if !slices.Contains(long, event.Test) {
			continue
		}
		if m := worked.FindStringSubmatch(event.Output); m != nil {
			seconds[event.Test], _ = strconv.Atoi(m[1])
		}
		switch {
		case event.Action != "pass":
		case seconds[event.Test] == 0:
			return nil, fmt.Errorf("%s passed and does not say how long it worked", event.Test)
		default:
			passed[event.Test] = seconds[event.Test]
		}
	}
}
