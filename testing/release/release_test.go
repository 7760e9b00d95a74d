// Package release_test proves that a release can be built again: twice from two directories, byte for byte.
package release_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	version = "v0.0.0-reproducible"
	// epoch stands for the commit's time, in seconds since 1970.
	epoch = "1700000000"
)

// One platform with the build cache that is there; with SLIPWAY_RELEASE_CHECK=1 all of them, the second time with an empty one.
func TestReleaseIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary twice")
	}
	if runtime.GOOS != "linux" {
		t.Skip("releases are built on Linux")
	}
	platforms := []string{"linux/" + runtime.GOARCH}
	var cold []string
	if os.Getenv("SLIPWAY_RELEASE_CHECK") != "" {
		platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}
		cold = []string{"GOCACHE=" + t.TempDir()}
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	first := build(t, here, platforms)
	second := build(t, copyTree(t, here), platforms, cold...)

	names := files(t, first)
	if want := 2 + 2*len(platforms); len(names) != want {
		t.Errorf("the release has %v, wanted are %d files", names, want)
	}
	if again := files(t, second); !slices.Equal(names, again) {
		t.Errorf("the second release has %v, the first %v", again, names)
	}
	for _, name := range names {
		if one, two := digest(t, first, name), digest(t, second, name); one != two {
			t.Errorf("%s: sha256 %s, and %s when built again", name, one, two)
		}
		if info, err := os.Stat(filepath.Join(first, name)); err != nil || fmt.Sprint(info.ModTime().Unix()) != epoch {
			t.Errorf("%s: modified at %v (%v), wanted is the commit's time", name, info.ModTime(), err)
		}
	}
	checkChecksums(t, first, names)
	for _, platform := range platforms {
		binary := filepath.Join(first, "slipway_"+version+"_"+strings.Replace(platform, "/", "_", 1))
		checkSBOM(t, binary)
		if strings.HasPrefix(platform, "linux/") {
			checkStatic(t, binary)
		}
		if platform == "linux/"+runtime.GOARCH {
			checkVersion(t, binary)
		}
	}
}

// build builds the release from the sources at root, and returns its directory.
func build(t *testing.T, root string, platforms []string, env ...string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "testing/release/build.sh"), append([]string{version, out}, platforms...)...)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build from %s: %v\n%s", root, err, text)
	}
	return out
}

// copyTree copies the files that git knows, as they are in the working tree.
func copyTree(t *testing.T, root string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		t.Skip("not a git repository: ", err)
	}
	to := t.TempDir()
	for _, name := range strings.Split(strings.TrimRight(string(list), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func digest(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// checkChecksums wants a line of sha256sum for every other file.
func checkChecksums(t *testing.T, dir string, names []string) {
	t.Helper()
	var want strings.Builder
	for _, name := range names {
		if name != "checksums.txt" {
			fmt.Fprintf(&want, "%s  %s\n", digest(t, dir, name), name)
		}
	}
	if have, err := os.ReadFile(filepath.Join(dir, "checksums.txt")); err != nil || string(have) != want.String() {
		t.Errorf("checksums.txt is (%v)\n%s, wanted is\n%s", err, have, want.String())
	}
}

// checkSBOM wants the version, the digest of the binary, the standard library and a module that slipway needs.
func checkSBOM(t *testing.T, binary string) {
	t.Helper()
	var bom struct {
		BOMFormat string `json:"bomFormat"`
		Metadata  struct {
			Timestamp  string
			Component  struct{ Name, Version string }
			Properties []struct{ Name, Value string }
		}
		Components []struct{ Name, Version string }
	}
	text, err := os.ReadFile(binary + ".cdx.json")
	if err == nil {
		err = json.Unmarshal(text, &bom)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := bom.Metadata.Component
	if bom.BOMFormat != "CycloneDX" || c.Name != "slipway.dev/slipway" || c.Version != version || bom.Metadata.Timestamp != "" {
		t.Errorf("%s.cdx.json: a %s of %s %s, made at %q", binary, bom.BOMFormat, c.Name, c.Version, bom.Metadata.Timestamp)
	}
	sum := digest(t, filepath.Dir(binary), filepath.Base(binary))
	named := false
	for _, p := range bom.Metadata.Properties {
		named = named || p.Name == "cdx:gomod:binary:hash:SHA-256" && p.Value == sum
	}
	if !named {
		t.Errorf("%s.cdx.json does not have the binary's digest %s", binary, sum)
	}
	have := map[string]string{}
	for _, c := range bom.Components {
		have[c.Name] = c.Version
	}
	if have["std"] == "" || have["github.com/spf13/cobra"] == "" || len(have) < 50 {
		t.Errorf("%s.cdx.json has %d components, std %q, cobra %q", binary, len(have), have["std"], have["github.com/spf13/cobra"])
	}
}

// checkStatic wants an executable that no loader has to link.
func checkStatic(t *testing.T, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s asks for a loader", binary)
		}
	}
}

func checkVersion(t *testing.T, binary string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, "version", "--output", "json").Output()
	if err != nil || !bytes.Contains(out, []byte(`"version": "`+version+`"`)) {
		t.Errorf("%s version: %s (%v)", binary, out, err)
	}
}
