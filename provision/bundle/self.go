package bundle

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// selfPrefix begins the names of directories with builds of slipway, next to the bundles.
const selfPrefix = "slipway-"

// Self copies the running slipway executable to the cache, at <cache>/bundles/slipway-<16 hex
// digits of its SHA-256>/bin/slipway, so that hosts get it like any other artifact; dir is that
// directory. Its version is those digits, because two builds of one version may differ. An existing
// copy is read again only if it has changed.
func Self(cacheDir string) (Artifact, string, error) {
	executable, err := os.Executable()
	if err != nil {
		return Artifact{}, "", fmt.Errorf("put slipway next to the bundles: %w", err)
	}
	return keep(context.Background(), cacheDir, executable, platform{runtime.GOOS, runtime.GOARCH})
}

// platform is what a build of slipway is for: a GOOS and a GOARCH.
type platform struct{ os, arch string }

// keep copies an executable of slipway to the cache.
func keep(ctx context.Context, cacheDir, executable string, of platform) (Artifact, string, error) {
	fail := func(err error) (Artifact, string, error) {
		return Artifact{}, "", fmt.Errorf("put slipway next to the bundles: %w", err)
	}
	cacheDir, err := filepath.Abs(cacheDir)
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(executable)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil { //nolint:gosec // contains the bundles
		return fail(err)
	}
	memo := openDigests(cacheDir)
	sum, err := memo.of(ctx, executable)
	if err != nil {
		return fail(err)
	}
	a := Artifact{
		Name: "slipway", Component: "slipway", Version: sum[:16], Kind: Binary,
		OS: of.os, Arch: of.arch, SHA256: sum, Size: info.Size(), Path: "bin/slipway",
	}
	dir := filepath.Join(cacheDir, "bundles", selfPrefix+sum[:16])
	file := filepath.Join(dir, "bin", "slipway")
	if memo.holds(ctx, a, file) != nil {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // hosts see it
			return fail(err)
		}
		if err := placeSelf(executable, file); err != nil {
			return fail(err)
		}
	}
	if err := a.present(file); err != nil {
		return fail(err)
	}
	use(dir)
	if err := memo.save(); err != nil {
		return fail(err)
	}
	return a, dir, nil
}

// placeSelf is place for concurrent calls: no lock is held, so each uses its own temporary name. It
// copies, because a new build of slipway may overwrite the old file, and a host's must not change.
func placeSelf(executable, file string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Dir(file)), "."+temporary)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // empty after the rename
	copied := filepath.Join(tmp, "slipway")
	if err := copyFile(executable, copied); err != nil {
		return err
	}
	if err := os.Chmod(copied, 0o755); err != nil { //nolint:gosec // hosts execute it
		return err
	}
	return os.Rename(copied, file)
}

// Sibling says where slipway for another architecture comes from.
type Sibling struct {
	// CacheDir is as in [Options], and Arch the architecture of the hosts.
	CacheDir, Arch string
	// Version is what the running slipway says that it is: a build from source says the same.
	Version string
	// Executable is the running slipway; empty to find it.
	Executable string
	// Progress is told what happens. May be nil.
	Progress func(Event)
}

// selfModule is the path of slipway's module.
const selfModule = "slipway.dev/slipway"

// SelfFor is [Self] for hosts with Linux on an architecture: the running executable, if it runs
// there; otherwise what an earlier call found; the file of the same release, slipway_<version>_linux_<arch>,
// next to it; or a build from its source, if it lies in a directory of slipway's module.
func SelfFor(ctx context.Context, s Sibling) (Artifact, string, error) {
	if s.Arch == runtime.GOARCH && runtime.GOOS == "linux" && s.Executable == "" {
		return Self(s.CacheDir)
	}
	a, dir, err := s.get(ctx)
	if err != nil {
		return a, dir, fmt.Errorf("slipway for linux/%s: %w", s.Arch, err)
	}
	return a, dir, nil
}

func (s Sibling) get(ctx context.Context) (a Artifact, dir string, err error) {
	if err := CheckArchitecture(s.Arch); err != nil {
		return a, "", err
	}
	if s.Executable == "" {
		if s.Executable, err = os.Executable(); err != nil {
			return a, "", err
		}
	}
	if s.Executable, err = filepath.EvalSymlinks(s.Executable); err != nil {
		return a, "", err
	}
	memo := openDigests(s.CacheDir)
	sum, err := memo.of(ctx, s.Executable)
	if err != nil {
		return a, "", err
	}
	known := readSiblings(s.CacheDir)
	if digits := known.of(sum, s.Arch); digits != "" {
		file := filepath.Join(s.CacheDir, "bundles", selfPrefix+digits, "bin", "slipway")
		if a, dir, err = keep(ctx, s.CacheDir, file, platform{"linux", s.Arch}); err == nil && a.Version == digits {
			return a, dir, nil
		}
	}
	if a, dir, err = s.find(ctx); err != nil {
		return a, dir, err
	}
	return a, dir, known.add(s.CacheDir, sum, s.Arch, a.Version)
}

// find looks for a release's file, then for the source.
func (s Sibling) find(ctx context.Context) (a Artifact, dir string, err error) {
	beside := filepath.Join(filepath.Dir(s.Executable), fmt.Sprintf("slipway_%s_linux_%s", s.Version, s.Arch))
	if _, err := os.Stat(beside); err == nil {
		if err := isSlipway(beside); err != nil {
			return a, "", err
		}
		return keep(ctx, s.CacheDir, beside, platform{"linux", s.Arch})
	}
	source := sourceOf(filepath.Dir(s.Executable))
	if source == "" {
		return a, "", fmt.Errorf("hosts need it, and it is not at hand: put the file of the same release for them next to this one, as %s", beside)
	}
	tmp, err := os.MkdirTemp(s.CacheDir, "slipway-")
	if err != nil {
		return a, "", err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // copied from there
	if s.Progress != nil {
		s.Progress(Event{Component: "slipway", Version: s.Version, Phase: Building, Detail: "for " + s.Arch + ", from " + source})
	}
	built := filepath.Join(tmp, "slipway")
	_, err = command{dir: source, env: goEnv(s.Arch, false), args: []string{
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + s.Version, "-o", built, "./cmd/slipway",
	}}.run(ctx)
	if err != nil {
		return a, "", err
	}
	return keep(ctx, s.CacheDir, built, platform{"linux", s.Arch})
}

// isSlipway refuses another program under slipway's name.
func isSlipway(file string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s is no program of Go: %w", file, err)
	}
	if info.Main.Path != selfModule {
		return fmt.Errorf("%s is built from %s, and not from %s", file, info.Main.Path, selfModule)
	}
	return nil
}

// sourceOf is the directory of slipway's module that dir is in; "" if it is in none. Only the
// directory of the executable counts: whoever can write there can replace the executable too.
func sourceOf(dir string) string {
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // above the executable
		if err == nil {
			if first, _, _ := strings.Cut(string(text), "\n"); strings.TrimSpace(first) == "module "+selfModule {
				return dir
			}
			return ""
		}
		up := filepath.Dir(dir)
		if up == dir || !errors.Is(err, os.ErrNotExist) {
			return ""
		}
		dir = up
	}
}

// siblings has which builds of slipway belong together: by the SHA-256 of one and an architecture,
// the version (Artifact.Version) of the one for that. It is <cache>/siblings.json.
type siblings map[string]string

func siblingsFile(cacheDir string) string { return filepath.Join(cacheDir, "siblings.json") }

func readSiblings(cacheDir string) siblings {
	known := siblings{}
	text, err := os.ReadFile(siblingsFile(cacheDir))
	if err == nil && json.Unmarshal(text, &known) != nil || known == nil {
		return siblings{} // only a memo: what it forgets is found again
	}
	return known
}

func (s siblings) of(sum, arch string) string {
	if digits := s[sum[:16]+"/"+arch]; digestName.MatchString(digits) {
		return digits
	}
	return ""
}

// all returns the versions of those that belong to the one with a version.
func (s siblings) all(version string) (others []string) {
	for key, digits := range s {
		if strings.HasPrefix(key, version+"/") {
			others = append(others, digits)
		}
	}
	return others
}

// add stores one. Of two concurrent calls, the last one wins.
func (s siblings) add(cacheDir, sum, arch, version string) error {
	if len(s) >= most {
		clear(s)
	}
	s[sum[:16]+"/"+arch] = version
	return writeJSON(siblingsFile(cacheDir), s)
}
