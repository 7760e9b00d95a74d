// Package testing_test keeps the import policy: the table in docs/design.md, read as it stands, against `go list`.
package testing_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module = "slipway.dev/slipway/"
	design = "../docs/design.md"
	// anyones may be imported by every package; the table says so in words.
	anyones = "provision/secret"
)

// folders are the only ones at the top that hold Go code.
var folders = []string{"cmd", "provision", "certs", "templates", "providers", "testing"}

// goPackage is what is used of `go list -json`. Import paths of ours are relative to the module.
type goPackage struct {
	ImportPath  string
	GoFiles     []string
	Imports     []string
	TestImports []string
	XTestImport []string `json:"XTestImports"`
}

// rule is a row of the table: what a package may import of ours.
type rule struct {
	all     bool // everything outside testing/*
	allowed []string
}

func TestImportsFollowDesign(t *testing.T) {
	rules := readRules(t)
	found := map[string]bool{}
	for _, p := range listPackages(t) {
		if !slices.Contains(folders, strings.Split(p.ImportPath, "/")[0]) {
			t.Errorf("%s: a new top-level folder; code lives in %v", p.ImportPath, folders)
			continue
		}
		checkTestImports(t, p)
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		found[p.ImportPath] = true
		r, ok := rules[p.ImportPath]
		if !ok {
			t.Errorf("%s has no row in the table of %s: say in one sentence what it is for and what it imports", p.ImportPath, design)
			continue
		}
		for _, imp := range ours(p.Imports) {
			if !r.permits(imp) {
				t.Errorf("%s imports %s, which its row in %s does not allow (it allows %v)", p.ImportPath, imp, design, r.allowed)
			}
		}
	}
	if !found["cmd/slipway"] {
		t.Error("go list did not report cmd/slipway: this test saw nothing")
	}
}

// checkTestImports holds test files to the two rules that bind them too.
func checkTestImports(t *testing.T, p goPackage) {
	t.Helper()
	for _, imp := range ours(slices.Concat(p.TestImports, p.XTestImport)) {
		if strings.HasPrefix(imp, "cmd/") && !strings.HasPrefix(p.ImportPath, "cmd/") {
			t.Errorf("a test of %s imports %s: nothing imports cmd", p.ImportPath, imp)
		}
		if imp == "providers" || strings.HasPrefix(imp, "providers/") {
			if p.ImportPath == "provision" || strings.HasPrefix(p.ImportPath, "provision/") {
				t.Errorf("a test of %s imports %s: provision never imports providers", p.ImportPath, imp)
			}
		}
	}
}

func (r rule) permits(imp string) bool {
	switch {
	case imp == anyones, slices.Contains(r.allowed, imp):
		return true
	case strings.HasPrefix(imp, "testing/"), strings.HasPrefix(imp, "cmd/"):
		return false
	}
	return r.all
}

var (
	row   = regexp.MustCompile("^\\| (`[^|]+`) \\|[^|]+\\| ([^|]+) \\|$")
	quote = regexp.MustCompile("`([^`]+)`")
)

// readRules parses the table. The third column is "none", "–" (a module of its own), "all but `testing/*`", or a list
// of packages by the last element of their path; "its children" stands for every row below the package.
func readRules(t *testing.T) map[string]rule {
	t.Helper()
	text, err := os.ReadFile(design)
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		m := row.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		for _, name := range quote.FindAllStringSubmatch(m[1], -1) {
			cells[name[1]] = m[2]
		}
	}
	if len(cells) < 15 {
		t.Fatalf("%s: found %d packages in the table, expected at least 15: has its form changed?", design, len(cells))
	}
	rules := map[string]rule{}
	for name, cell := range cells {
		rules[name] = parseRule(t, name, cell, cells)
	}
	return rules
}

func parseRule(t *testing.T, name, cell string, rows map[string]string) rule {
	t.Helper()
	switch cell {
	case "none", "–":
		return rule{}
	case "all but `testing/*`":
		return rule{all: true}
	}
	var r rule
	for word := range strings.SplitSeq(cell, ", ") {
		n := len(r.allowed)
		for other := range rows {
			child := word == "its children" && strings.HasPrefix(other, name+"/")
			if child || path.Base(other) == word {
				r.allowed = append(r.allowed, other)
			}
		}
		if len(r.allowed) == n {
			t.Errorf("%s: the row of %s names %q, which is no package of the table", design, name, word)
		}
	}
	slices.Sort(r.allowed)
	return r
}

// listPackages lists every package of this module; those in modules of their own are not among them.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		packages = append(packages, p)
	}
}

// ours picks this module's packages out of imports, relative to the module.
func ours(imports []string) []string {
	var rel []string
	for _, imp := range imports {
		if r, ok := strings.CutPrefix(imp, module); ok {
			rel = append(rel, r)
		}
	}
	return rel
}
