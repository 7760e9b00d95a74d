package testing_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure are the packages that only compute: with the same values they come to the same result, whatever the computer, the
// network and the clock are doing. The executor (dag) tells how long steps take, so it may read the clock.
var pure = map[string]struct{ clock bool }{
	"provision/plan": {}, "provision/stack": {}, "certs": {}, "provision/dag": {clock: true},
}

// impureImports are packages that reach out; of impureNames, which are of packages with pure parts too, these do.
var (
	impureImports = []string{"os", "os/exec", "os/user", "os/signal", "syscall", module + "provision/host", module + "provision/etcd"}
	impureNames   = map[string]*regexp.Regexp{
		"net":      regexp.MustCompile("^(Dial|Listen|Lookup|Interface)"),
		"net/http": regexp.MustCompile("^(Get|Post|PostForm|Head|Client|Transport|Default.*|Listen.*)$"),
	}
	clockNames = []string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "Tick"}
)

func TestPurePackagesOnlyCompute(t *testing.T) {
	for name, may := range pure {
		files, err := filepath.Glob("../" + name + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", name, err, len(files))
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file) // #nosec G304 -- a file of this module
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range impurities(t, file, string(text), may.clock) {
				t.Errorf("%s; %s only computes: take it as an argument", problem, name)
			}
		}
	}
}

// TestImpuritiesAreFound: the check can fail.
func TestImpuritiesAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`import ("net"; "time"); var a, b = net.SplitHostPort, time.Second`: 0,
		`import "time"; var now = time.Now()`:                               1,
		`import clock "time"; var now, since = clock.Now(), clock.Since`:    2,
		`import "os"`: 1,
		`import "net"; var conn, lookup = net.DialTimeout, net.LookupHost`:                                 2,
		`import ("net/http"; "` + module + `provision/host"); var _ = http.DefaultClient; var _ host.Host`: 2,
	} {
		if got := impurities(t, "x.go", "package x; "+text, false); len(got) != want {
			t.Errorf("%s: %q, want %d", text, got, want)
		}
	}
	if got := impurities(t, "x.go", `package x; import "time"; var now = time.Now()`, true); len(got) > 0 {
		t.Errorf("with leave to read the clock: %q", got)
	}
}

// impurities are the places of a file that reach out of what it is given.
func impurities(t *testing.T, name, text string, clock bool) []string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	say := func(at token.Pos, what string) { found = append(found, files.Position(at).String()+": "+what) }
	imported := map[string]string{}
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		local := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			local = i.Name.Name
		}
		imported[local] = path
		if slices.Contains(impureImports, path) {
			say(i.Pos(), "imports "+path)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok {
			path := imported[x.Name]
			reaches := impureNames[path] != nil && impureNames[path].MatchString(s.Sel.Name)
			if reaches || path == "time" && !clock && slices.Contains(clockNames, s.Sel.Name) {
				say(s.Pos(), "uses "+path+"."+s.Sel.Name)
			}
		}
		return true
	})
	return found
}
