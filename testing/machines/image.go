package machines

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

//go:embed recipe
var recipe embed.FS

// System is what a machine runs.
type System struct {
	suite    string
	packages []string // besides the common ones
}

// The systems that there are. UML is Debian 12 on user-mode Linux: a kernel of its own with cgroup
// v2 and IPVS, on one CPU, without the cpuset controller, nftables for IPv4, and WireGuard. It is too
// slow for a control plane.
var (
	Debian12 = System{suite: "bookworm"}
	Debian13 = System{suite: "trixie"}
	UML      = System{suite: "bookworm", packages: []string{"user-mode-linux", "udev", "openssh-client", "e2fsprogs", "ipvsadm"}}
)

// common are Debian's packages of an ordinary server, and what nodes need besides.
var common = []string{
	"systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "iproute2", "iptables", "nftables", "conntrack",
	"ebtables", "ethtool", "socat", "ipset", "kmod", "ca-certificates", "curl", "procps",
}

func (s System) isUML() bool { return len(s.packages) > 0 }

func (s System) String() string {
	if s.isUML() {
		return s.suite + " (user-mode Linux)"
	}
	return s.suite
}

// args are mmdebstrap's: Debian's packages, and nothing changed.
func (s System) args(target string) []string {
	packages := strings.Join(append(append([]string(nil), common...), s.packages...), ",")
	return []string{"--quiet", "--variant=minbase", "--include=" + packages, s.suite, target}
}

// base names the image of these packages, and tag the one with the recipe's files, by digest.
func (s System) base() string {
	return "slipway-test-base:" + digest(fmt.Sprintf("%s\n%q\n", runtime.GOARCH, s.args("TARGET")))
}

func (s System) tag() string {
	all := s.base()
	for _, name := range recipeFiles() {
		all += fmt.Sprintf("\n%s\n%s", name, recipeFile(name))
	}
	return "slipway-test-machine:" + digest(all)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func recipeFiles() []string {
	entries, err := recipe.ReadDir("recipe")
	if err != nil {
		panic(err) // it is embedded
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func recipeFile(name string) []byte {
	b, err := recipe.ReadFile("recipe/" + name)
	if err != nil {
		panic(err)
	}
	return b
}

// ensureImage returns the image's tag. Debian's packages are put together with mmdebstrap the first
// time, which takes about a minute; they stay in the cache, and the images in the engine.
func ensureImage(t testing.TB, s System) string {
	t.Helper()
	tag := s.tag()
	if hasImage(t, tag) {
		return tag
	}
	if base := s.base(); !hasImage(t, base) {
		file := filepath.Join(cacheDir(t), "machine", strings.ReplaceAll(base, ":", "-")+".tar")
		if _, err := os.Stat(file); err != nil {
			began := time.Now()
			if err := makeBase(t.Context(), s, file); err != nil {
				t.Fatal(err)
			}
			t.Logf("put %v together in %.0fs", s, time.Since(began).Seconds())
		}
		must(t, nil, "import", file, base)
	}
	maker := must(t, nil, "create", "--label", label+"=image", "--network", "none", s.base(), "sh", "/recipe/customize", "/recipe")
	defer func() { must(t, nil, "rm", "-fv", maker) }()
	files := map[string]string{}
	for _, name := range recipeFiles() {
		files[name] = string(recipeFile(name))
	}
	must(t, pack("recipe", files), "cp", "-", maker+":/")
	must(t, nil, "start", "--attach", maker)
	must(t, nil, "commit", maker, tag)
	return tag
}

func hasImage(t testing.TB, tag string) bool {
	t.Helper()
	_, err := docker(t.Context(), nil, "image", "inspect", tag)
	return err == nil
}

// makeBase writes the root file system to file.
func makeBase(ctx context.Context, s System, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(file), "making-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	target := filepath.Join(tmp, "base.tar")
	cmd := exec.CommandContext(ctx, "mmdebstrap", s.args(target)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it unmounts what it has mounted
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("put %v together with mmdebstrap: %w\n%s", s, err, out)
	}
	return os.Rename(target, file)
}

// pack is a directory with files that root alone reads, as a tar.
func pack(dir string, files map[string]string) *bytes.Buffer {
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for name, content := range files { // writes to a buffer do not fail
		_ = out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + name, Mode: 0o600, Size: int64(len(content))})
		_, _ = out.Write([]byte(content))
	}
	_ = out.Close()
	return &b
}

// cacheDir is slipway's, which has what takes long to make.
func cacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SLIPWAY_CACHE_DIR"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "slipway")
}
