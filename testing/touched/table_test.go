package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// here is this module, with its packages and long tests as they are.
func here(t *testing.T) (*tree, packages) {
	t.Helper()
	tree := &tree{root: "../.."}
	p, err := tree.packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.imports) < 30 || len(p.tests) < 3 {
		t.Fatalf("found %d packages and long tests in %d files", len(p.imports), len(p.tests))
	}
	return tree, p
}

// ships says that a package is part of slipway, or runs in the tests' pods.
func ships(dir string) bool {
	return !strings.HasPrefix(dir+"/", "testing/") || dir == "testing/e2e/testserver"
}

func TestEveryPackageHasARow(t *testing.T) {
	_, p := here(t)
	for dir := range p.imports {
		if _, ok := table[dir]; ok != ships(dir) {
			t.Errorf("%s: in the table of table.go: %t, should be %t", dir, ok, ships(dir))
		}
	}
	for dir := range table {
		if _, ok := p.imports[dir]; !ok {
			t.Errorf("%s is in the table and is no package", dir)
		}
	}
}

func TestEveryLongTestIsInTheTable(t *testing.T) {
	_, p := here(t)
	var written []string
	for _, tests := range p.tests {
		written = append(written, tests...)
	}
	var inRows []string
	for dir, row := range table {
		inRows = append(inRows, row.tests...)
		for _, test := range row.tests {
			if !slices.Contains(written, test) {
				t.Errorf("the row of %s names %s, which is not a test of testing/e2e", dir, test)
			}
		}
	}
	for _, test := range written {
		if !slices.Contains(long, test) || !slices.Contains(inRows, test) {
			t.Errorf("%s is in the list of long tests: %t, in some row: %t", test, slices.Contains(long, test), slices.Contains(inRows, test))
		}
	}
	if len(long) != len(written) {
		t.Errorf("the list has %v, and testing/e2e has %v", long, written)
	}
}

// TestLongTestsAreNamedSo: what `make test` leaves out is what is called TestLong, and nothing else is.
func TestLongTestsAreNamedSo(t *testing.T) {
	files, err := filepath.Glob("../e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	skipping := 0
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name == "long" {
				continue
			}
			if calls := callsLong(f); calls != strings.HasPrefix(f.Name.Name, "TestLong") {
				t.Errorf("%s: %s begins with a call of long: %t", name, f.Name.Name, calls)
			} else if calls {
				skipping++
			}
		}
	}
	if skipping != len(long) {
		t.Errorf("%d tests call long, the list has %d", skipping, len(long))
	}
}

// callsLong says that a function calls long first. A call anywhere else would choose within a test.
func callsLong(f *ast.FuncDecl) bool {
	calls := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "long" {
				calls++
			}
		}
		return true
	})
	if calls == 0 || len(f.Body.List) == 0 {
		return calls > 0
	}
	first, ok := f.Body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := first.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := call.Fun.(*ast.Ident)
	return ok && name.Name == "long" && calls == 1
}

// TestNoPackageTouchesEverything: a table that always says everything says nothing.
func TestNoPackageTouchesEverything(t *testing.T) {
	_, p := here(t)
	for dir := range table {
		if reached := p.reached(dir); len(reached) > 5 {
			t.Errorf("a change of %s touches %d of %d long tests: %v", dir, len(reached), len(long), reached)
		}
	}
}

func TestFilesOfThisModule(t *testing.T) {
	_, p := here(t)
	for file, want := range map[string]struct {
		cause string
		tests []string
	}{
		"provision/balancer/balancer.go":        {"provision/balancer", []string{rotation, survival}},
		"provision/balancer/balancer_test.go":   {"provision/balancer/balancer_test.go", nil},
		"templates/units/etcd.service":          {"templates", []string{rotation, survival}},
		"provision/etcd/etcd.go":                {"provision/etcd", []string{chaosKill, renewal, survival}}, // through live and observe
		"go.mod":                                {"go.mod", long},
		"docs/design.md":                        {"docs/design.md", nil},
		"Makefile":                              {"Makefile", nil},
		"testing/e2e/doc.go":                    {"testing/e2e/doc.go", nil},
		"testing/simulate/run.go":               {"testing/simulate/run.go", nil},
		"provision/spec/testdata/x/cluster.yml": {"provision/spec/testdata/x/cluster.yml", nil},
	} {
		if cause, tests := p.touches(file); cause != want.cause || !slices.Equal(tests, want.tests) {
			t.Errorf("%s: %s touches %v, want %s and %v", file, cause, tests, want.cause, want.tests)
		}
	}
}
