package main

import (
	"path"
	"slices"
	"strings"
)

// packages are those of the module: what each imports of ours, and the long tests in files of testing/e2e.
type packages struct {
	imports map[string][]string // by directory from the module's root
	tests   map[string][]string // by file from the module's root
}

// causes are the packages and files among the changed ones that touch a test, sorted.
func (p packages) causes(test string, changed []string) []string {
	var all []string
	for _, file := range changed {
		if cause, tests := p.touches(file); slices.Contains(tests, test) {
			all = append(all, cause)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// touches says which long tests a change of a file touches, and by which name to call the file or its package.
func (p packages) touches(file string) (cause string, tests []string) {
	if tests, ok := others[file]; ok {
		return file, tests
	}
	if tests, ok := p.tests[file]; ok {
		return file, tests
	}
	if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".md") || strings.Contains(file, "/testdata/") {
		return file, nil
	}
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		if _, ok := table[dir]; ok {
			return dir, p.reached(dir)
		}
	}
	return file, nil
}

// reached are the tests of a package and of those that import it, up to wide ones.
func (p packages) reached(dir string) []string {
	seen := map[string]bool{}
	var tests []string
	var visit func(dir string)
	visit = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		tests = append(tests, table[dir].tests...)
		if table[dir].wide {
			return
		}
		for importer, imports := range p.imports {
			if slices.Contains(imports, dir) && !table[importer].wide {
				visit(importer)
			}
		}
	}
	visit(dir)
	slices.Sort(tests)
	return slices.Compact(tests)
}
