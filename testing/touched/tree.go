package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const module = "slipway.dev/slipway/"

// tree is a checkout of the module.
type tree struct{ root string }

func openTree() (*tree, error) {
	root, err := output(".", "git", "rev-parse", "--show-toplevel")
	return &tree{root: strings.TrimSpace(root)}, err
}

func output(dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// has says whether a commit is there, as not all are in a shallow clone.
func (t *tree) has(commit string) bool {
	_, err := output(t.root, "git", "cat-file", "-e", commit+"^{commit}")
	return err == nil
}

// changed are the files that differ from a commit, those that are in no commit included.
func (t *tree) changed(since string) ([]string, error) {
	differ, err := output(t.root, "git", "diff", "--name-only", "--no-renames", since, "--")
	if err != nil {
		return nil, err
	}
	untracked, err := output(t.root, "git", "ls-files", "--others", "--exclude-standard")
	return strings.Fields(differ + untracked), err
}

// packages asks go list, and reads the long tests.
func (t *tree) packages() (packages, error) {
	p := packages{imports: map[string][]string{}, tests: map[string][]string{}}
	list, err := output(t.root, "go", "list", "-json=ImportPath,Imports", "./...")
	if err != nil {
		return p, err
	}
	for decoder := json.NewDecoder(strings.NewReader(list)); ; {
		var one struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return p, fmt.Errorf("go list: %w", err)
		}
		dir := strings.TrimPrefix(one.ImportPath, module)
		p.imports[dir] = nil
		for _, imported := range one.Imports {
			if of, ours := strings.CutPrefix(imported, module); ours {
				p.imports[dir] = append(p.imports[dir], of)
			}
		}
	}
	return p, t.readTests(p.tests)
}

var longTest = regexp.MustCompile(`(?m)^func (TestLong\w*)\(`)

// readTests finds the long tests in the files of testing/e2e.
func (t *tree) readTests(tests map[string][]string) error {
	files, err := filepath.Glob(filepath.Join(t.root, "testing/e2e/*_test.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, found := range longTest.FindAllSubmatch(text, -1) {
			name := "testing/e2e/" + filepath.Base(file)
			tests[name] = append(tests[name], string(found[1]))
		}
	}
	return nil
}

// pass is when a test last passed, and how long it took.
type pass struct {
	commit  string
	seconds int
}

// unknown is how long a test is assumed to take that has never passed, in seconds.
const unknown = 20 * 60

func (p pass) assumed() int {
	if p.seconds == 0 {
		return unknown
	}
	return p.seconds
}

func (p pass) length() string {
	if p.seconds == 0 {
		return fmt.Sprintf("it has not passed yet, and is assumed to take %d s", unknown)
	}
	return fmt.Sprintf("it took %d s", p.seconds)
}

// passed reads passed.txt: a test, a commit and seconds on each line.
func (t *tree) passed() (map[string]pass, error) {
	text, err := os.ReadFile(filepath.Join(t.root, passedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return parsePassed(string(text))
}

func parsePassed(text string) (map[string]pass, error) {
	all := map[string]pass{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var test string
		var p pass
		if n, err := fmt.Sscan(line, &test, &p.commit, &p.seconds); n != 3 {
			return nil, fmt.Errorf("%s: %q: want a test, a commit and seconds: %w", passedFile, line, err)
		}
		all[test] = p
	}
	return all, nil
}
