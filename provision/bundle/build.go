package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Build makes the bundle from source, with the Go toolchain and gcc of this computer, for hosts of
// its own architecture or of another one: then the C parts need the cross compiler and libraries of
// that one. A component whose recipe (its go.mod, go.sum, flags and compilers) has not changed is
// taken from the cache. The same recipes and compilers give the same digests. Missing tools are reported all at once,
// before anything starts.
func Build(ctx context.Context, o Options) (*Bundle, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	rows, err := recipesFor(o.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	return buildRows(ctx, o, rows)
}

func buildRows(ctx context.Context, o Options, rows []recipe) (*Bundle, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("cannot build for linux/%s on %s/%s: runc and flannel need the C compiler and libraries of a Linux; download instead",
			o.Arch, runtime.GOOS, runtime.GOARCH)
	}
	if err := missingTools(ctx, rows, o.Arch, exec.LookPath); err != nil {
		return nil, err
	}
	return collect(ctx, o, rows, newBuilder(o))
}

// builder is the source that compiles.
type builder struct {
	o          Options
	toolchains func(ctx context.Context, r recipe) (string, error)
}

func newBuilder(o Options) *builder {
	return &builder{o: o, toolchains: newToolchains(o.CacheDir, o.Arch)}
}

func (b *builder) kind() Source { return FromBuild }

func (b *builder) version(r recipe) string { return r.Version }

func (b *builder) digest(ctx context.Context, r recipe) (string, error) {
	toolchain, err := b.toolchains(ctx, r)
	if err != nil {
		return "", err
	}
	return recipeDigest(built(r), b.o.Arch, toolchain)
}

// built is the part of a recipe that determines the result of a build: everything except upstream's
// releases.
func built(r recipe) recipe {
	r.Upstream = upstream{}
	return r
}

// recipeDigest covers everything that determines the result of a recipe.
func recipeDigest(r recipe, arch, toolchain string) (string, error) {
	mod, sum, err := r.wrapper()
	if err != nil {
		return "", err
	}
	row, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	format := ""
	if r.Image != nil {
		format = imageFormat
	}
	return bytesDigest(row, mod, sum, []byte(arch), []byte(toolchain), []byte(goPause), []byte(format))[:16], nil
}

// slots are the processors.
func (b *builder) slots() int64 { return int64(runtime.GOMAXPROCS(0)) }

// weight is all processors for Kubernetes, whose linkers alone fill the memory of a small computer,
// and half of them for the others.
func (b *builder) weight(r recipe) int64 {
	if r.Whole {
		return b.slots()
	}
	return (b.slots() + 1) / 2
}

func (b *builder) make(ctx context.Context, r recipe, dir string) error {
	b.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Building})
	work, bin := filepath.Join(dir, "work"), filepath.Join(dir, "bin")
	if err := writeWrapper(r, work); err != nil {
		return err
	}
	if r.C != nil {
		return compileC(ctx, r, work, bin, b.o.Arch)
	}
	return b.compileGo(ctx, r, work, bin)
}

// writeWrapper writes the recipe's module into an empty directory.
func writeWrapper(r recipe, dir string) error {
	mod, sum, err := r.wrapper()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600)
}

// goEnv is the environment of every go command here. -mod=readonly restricts it to the committed
// go.mod and go.sum.
func goEnv(arch string, cgo bool) []string {
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	env := []string{"GOFLAGS=-mod=readonly", "GOWORK=off", "GOOS=linux", "GOARCH=" + arch, "CGO_ENABLED=" + enabled}
	if cgo && crossed(arch) {
		env = append(env, "CC="+gcc(arch))
		env = append(env, pkgConfigEnv(arch)...)
	}
	return env
}

// crossed reports whether programs for an architecture need another C compiler than this computer's
// own.
func crossed(arch string) bool { return arch != runtime.GOARCH }

// gcc is the C compiler for an architecture, by the name that every distribution gives it.
func gcc(arch string) string {
	if crossed(arch) {
		return machines[arch].triplet() + "-gcc"
	}
	return "gcc"
}

// pkgConfigEnv has pkg-config look for another architecture's libraries, where Debian's multiarch
// has them.
func pkgConfigEnv(arch string) []string {
	if !crossed(arch) {
		return nil
	}
	return []string{"PKG_CONFIG_LIBDIR=/usr/lib/" + machines[arch].triplet() + "/pkgconfig", "PKG_CONFIG_PATH="}
}

func (b *builder) compileGo(ctx context.Context, r recipe, work, bin string) error {
	g := goBuild{
		dir: work, env: goEnv(b.o.Arch, r.Cgo),
		flags: []string{"-p", strconv.FormatInt(b.weight(r), 10), "-trimpath", "-buildvcs=false", "-tags", r.Tags},
		report: func(phase Phase, done, total int64) {
			b.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: phase, Done: done, Total: total})
		},
	}
	for _, p := range r.Packages {
		g.packages = append(g.packages, p.Package)
	}
	g.list(ctx)
	if err := g.run(ctx, bin, "-ldflags", r.ldflags()); err != nil {
		return err
	}
	for _, p := range r.Packages {
		if made := output(p.Package); made != p.Name {
			if err := os.Rename(filepath.Join(bin, made), filepath.Join(bin, p.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// compileC compiles a C file that a module of the wrapper carries. The module is checked against
// go.sum as any other.
func compileC(ctx context.Context, r recipe, work, bin, arch string) error {
	out, err := command{
		dir: work, env: goEnv(runtime.GOARCH, false), args: []string{"go", "mod", "download", "-json", r.C.Module},
	}.run(ctx)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &module); err != nil {
		return fmt.Errorf("go mod download -json %s: %w", r.C.Module, err)
	}
	dir, file := filepath.Join(module.Dir, filepath.FromSlash(path.Dir(r.C.File))), path.Base(r.C.File)
	if _, err := os.Stat(filepath.Join(dir, file)); errors.Is(err, os.ErrNotExist) {
		return compilePause(ctx, r, work, bin, arch)
	}
	args := append([]string{gcc(arch)}, r.C.Flags...)
	// A relative name, compiled in its directory, so that the program contains no path of this
	// computer.
	_, err = command{dir: dir, args: append(args, "-o", filepath.Join(bin, r.C.Name), file)}.run(ctx)
	return err
}

// goPause does the same as pause.c, which upstream only publishes in images: it waits, reaps
// orphans, and exits without output.
const goPause = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}
`

func compilePause(ctx context.Context, r recipe, work, bin, arch string) error {
	files := map[string]string{"go.mod": "module slipway.dev/bundle/pause\n\ngo 1.26.0\n", "main.go": goPause}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(work, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	_, err := command{dir: work, env: goEnv(arch, false), args: []string{
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", r.ldflags(), "-o", filepath.Join(bin, r.C.Name), ".",
	}}.run(ctx)
	return err
}

// newToolchains returns a function that names the compilers of a recipe and queries each only once.
// The answer of `go` depends on the go.mod in its directory, because the go command may switch to
// another toolchain for it.
func newToolchains(cacheDir, arch string) func(context.Context, recipe) (string, error) {
	var mu sync.Mutex
	known := map[string]string{}
	return func(ctx context.Context, r recipe) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		key := r.module() + strconv.FormatBool(r.gcc())
		if t, ok := known[key]; ok {
			return t, nil
		}
		t, err := toolchain(ctx, r, cacheDir, arch)
		if err == nil {
			known[key] = t
		}
		return t, err
	}
}

func (r recipe) gcc() bool { return r.Cgo || r.C != nil }

func (r recipe) seccomp() bool { return r.Cgo && strings.Contains(r.Tags, "seccomp") }

func toolchain(ctx context.Context, r recipe, cacheDir, arch string) (string, error) {
	dir, err := os.MkdirTemp(cacheDir, "toolchain-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a few kilobytes
	if err := writeWrapper(r, dir); err != nil {
		return "", err
	}
	commands := [][]string{{"go", "env", "GOVERSION"}}
	if r.gcc() {
		commands = append(commands, []string{gcc(arch), "--version"}, []string{gcc(arch), "-print-file-name=libc.a"})
	}
	if r.seccomp() {
		commands = append(commands, []string{"pkg-config", "--modversion", "libseccomp"})
	}
	var answers []string
	for _, args := range commands {
		answer, err := command{dir: dir, env: goEnv(arch, r.Cgo), args: args}.run(ctx)
		if err != nil {
			return "", err
		}
		answers = append(answers, answer)
	}
	return strings.Join(answers, "\n"), nil
}

// missingTools names every tool that the recipes need for an architecture and that is not there, with
// the Debian package that has it.
func missingTools(ctx context.Context, rows []recipe, arch string, look func(string) (string, error)) error {
	var goes, c, seccomp bool
	for _, r := range rows {
		goes, c, seccomp = true, c || r.gcc(), seccomp || r.seccomp()
	}
	has := func(name string) bool { _, err := look(name); return err == nil }
	answers := func(args ...string) string {
		out, err := command{env: pkgConfigEnv(arch), args: args}.run(ctx)
		if err != nil {
			return ""
		}
		return out
	}
	var missing, packages []string
	need := func(needed, there bool, what, debian string) {
		if needed && !there {
			missing, packages = append(missing, what), append(packages, debian)
		}
	}
	names, compiler, before := debianNames(arch), gcc(arch), ""
	need(goes, has("go"), "go", "golang-go")
	need(c, has(compiler), compiler, names.gcc)
	// gcc prints the whole path of a library it has, and only the name of one it has not.
	need(c, has(compiler) && strings.Contains(answers(compiler, "-print-file-name=libc.a"), "/"), "the static C library"+names.of, names.libc)
	need(seccomp, has("pkg-config"), "pkg-config", "pkg-config")
	there := has("pkg-config") && answers("pkg-config", "--modversion", "libseccomp") != ""
	if need(seccomp, there, "libseccomp's headers"+names.of, names.seccomp); seccomp && !there {
		before = names.before
	}
	if missing == nil {
		return ctx.Err()
	}
	return fmt.Errorf("cannot build the bundle, these are missing: %s (on Debian: %sapt-get install %s)",
		strings.Join(missing, ", "), before, strings.Join(packages, " "))
}

// debian are the names of packages for an architecture.
type debian struct{ of, gcc, libc, seccomp, before string }

// debianNames are those of this computer, or those for cross compilation: their names have Debian's
// name of the architecture, which is Go's for all that hosts have.
func debianNames(arch string) debian {
	if !crossed(arch) {
		return debian{gcc: "gcc", libc: "libc6-dev", seccomp: "libseccomp-dev"}
	}
	return debian{
		of: " for " + arch, gcc: "gcc-" + strings.ReplaceAll(machines[arch].triplet(), "_", "-"), libc: "libc6-dev-" + arch + "-cross",
		seccomp: "libseccomp-dev:" + arch, before: "dpkg --add-architecture " + arch + " && apt-get update && ",
	}
}
