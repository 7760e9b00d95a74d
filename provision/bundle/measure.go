package bundle

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// goBuild is one `go build` that is measured. Before it, `go list` says which packages it is going
// to compile (those that are not in Go's cache); -v says which one it begins, and programs appear
// in a directory when they are linked. Of builds that run at the same time, each package is
// compiled by one only, so the count of the others ends short of the total.
type goBuild struct {
	dir      string
	env      []string
	flags    []string // that determine what is compiled
	packages []string // the programs'
	report   func(phase Phase, done, total int64)

	mu      sync.Mutex      // guards what follows
	known   map[string]bool // packages, and whether they have to be compiled and are counted
	total   int64
	begun   int64
	modules int64
	linked  int64
}

// list finds out what has to be compiled, and downloads modules for it. If it fails, the build will
// fail for the same reason and is the better one to say so: nothing is measured then.
func (g *goBuild) list(ctx context.Context) {
	args := append([]string{"go", "list", "-deps", "-f", `{{.ImportPath}} {{and .Stale (ne .Name "main")}}`}, g.flags...)
	out, err := command{dir: g.dir, env: g.env, args: append(args, g.packages...), line: g.fetched}.run(ctx)
	if err != nil {
		return
	}
	g.known = map[string]bool{}
	for line := range strings.Lines(out) {
		name, stale, _ := strings.Cut(strings.TrimSpace(line), " ")
		if g.known[name] = stale == "true"; g.known[name] {
			g.total++
		}
	}
}

// fetched counts modules.
func (g *goBuild) fetched(line string) bool {
	if strings.HasPrefix(line, "go: downloading ") {
		g.modules++
		g.report(Fetching, g.modules, 0)
	}
	return false
}

// run builds the programs into bin.
func (g *goBuild) run(ctx context.Context, bin string, flags ...string) error {
	args := append([]string{"go", "build", "-o", bin + "/"}, flags...)
	c := command{dir: g.dir, env: g.env}
	if g.known != nil {
		args, c.line = append(args, "-v"), g.compiling
		g.tell()
		defer g.watch(ctx, bin)()
	}
	c.args = append(append(args, g.flags...), g.packages...)
	if _, err := c.run(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun = g.total
	g.count(bin)
	return nil
}

// compiling counts packages. Their names are no part of what the compiler says.
func (g *goBuild) compiling(line string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts, known := g.known[line]
	if counts {
		g.known[line] = false
		g.begun++
		g.tell()
	}
	return known
}

// watch counts the programs in bin every second, until the function that it returns is called.
func (g *goBuild) watch(ctx context.Context, bin string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			g.mu.Lock()
			g.count(bin)
			g.mu.Unlock()
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (g *goBuild) count(bin string) {
	entries, err := os.ReadDir(bin)
	if n := int64(len(entries)); err == nil && n != g.linked {
		g.linked = n
		g.tell()
	}
}

// tell reports packages, and programs once there are no packages left. Programs are linked before
// that too, but do not decide how long it takes.
func (g *goBuild) tell() {
	if g.begun < g.total {
		g.report(Compiling, g.begun, g.total)
		return
	}
	g.report(Linking, g.linked, int64(len(g.packages)))
}

// meter reports what is read through it, at each percent of total, or at each megabyte if that is
// not known.
type meter struct {
	io.Reader
	done, total int64
	report      func(done, total int64)
	last        int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.done += int64(n)
	mark := m.done >> 20
	if m.total > 0 {
		mark = m.done * 100 / m.total
	}
	if n > 0 && mark != m.last {
		m.last = mark
		m.report(m.done, m.total)
	}
	return n, err
}
