package testing_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesWhatThereIs: the walk-through names packages, functions and types as they are.
func TestArchitectureNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, p := range listPackages(t) {
		for name := range declarations(t, filepath.Join("..", p.ImportPath), p.GoFiles) {
			declared[filepath.Base(p.ImportPath)+"."+name] = true
			if p.ImportPath == "cmd/slipway" {
				declared[name] = true
			}
		}
	}
	named := regexp.MustCompile("`([a-z]+\\.[A-Za-z.]+|new[A-Z][A-Za-z]*)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 25 {
		t.Fatalf("only %d names were found: has the form changed?", len(named))
	}
	for _, match := range named {
		if name := match[1]; !declared[name] && !strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".go") {
			t.Errorf("docs/architecture.md names `%s`, which is not declared", name)
		}
	}
}

// declarations are the names of functions and types of a package, and of methods as "Type.Method".
func declarations(t *testing.T, dir string, names []string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch d := n.(type) {
			case *ast.FuncDecl:
				found[receiver(d)+d.Name.Name] = true
				return false
			case *ast.TypeSpec:
				found[d.Name.Name] = true
				if i, ok := d.Type.(*ast.InterfaceType); ok {
					for _, method := range i.Methods.List {
						for _, id := range method.Names {
							found[d.Name.Name+"."+id.Name] = true
						}
					}
				}
			}
			return true
		})
	}
	return found
}

// receiver is "Type." for a method, else "".
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	id, ok := of.(*ast.Ident)
	if !ok {
		return ""
	}
	return id.Name + "."
}
