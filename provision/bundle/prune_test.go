package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oldCache is a cache with all kinds of things, each last used a number of days ago.
func oldCache(t *testing.T) (cache, own string) {
	t.Helper()
	cache = t.TempDir()
	put := func(name, content string) string {
		t.Helper()
		file := filepath.Join(cache, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(content), 0o755))
		return file
	}
	used := func(path string, days int) {
		t.Helper()
		at := time.Now().Add(-time.Duration(days) * 24 * time.Hour)
		must(t, os.Chtimes(filepath.Join(cache, path), at, at))
	}
	made := func(content, release string, days int) {
		t.Helper()
		a := Artifact{Name: "x", Component: "c", Version: release, Kind: Binary, OS: "linux", Arch: "amd64", Path: "bin/x"}
		component := filepath.Join("build", "c-"+content)
		must(t, a.measure(t.Context(), put(component+"/bin/x", content)))
		must(t, writeJSON(filepath.Join(cache, component, "component.json"), []Artifact{a}))
		dir := filepath.Join("bundles", digestOf([]Artifact{a}))
		must(t, os.MkdirAll(filepath.Join(cache, dir, "bin"), 0o755))
		must(t, os.Link(filepath.Join(cache, component, "bin/x"), filepath.Join(cache, dir, "bin/x")))
		must(t, writeJSON(filepath.Join(cache, dir, "bundle.json"), Bundle{
			APIVersion: APIVersion, Kind: Kind, KubernetesVersion: release, Artifacts: []Artifact{a},
		}))
		put("packed/"+a.SHA256+"."+strings.Repeat("0", 64)+".zst", "packed "+content)
		for _, path := range []string{dir, component, "packed/" + a.SHA256 + "." + strings.Repeat("0", 64) + ".zst"} {
			used(path, days)
		}
		names[content] = dir
	}
	made("newest", "v1", 5)
	made("older", "v1", 9)
	made("today", "v1", 0)
	made("other release", "v2", 20)
	for name, days := range map[string]int{"aaaaaaaaaaaaaaaa": 3, "bbbbbbbbbbbbbbbb": 3, "cccccccccccccccc": 0} {
		put("bundles/slipway-"+name+"/bin/slipway", name)
		used("bundles/slipway-"+name, days)
	}
	for name, days := range map[string]int{
		"packed/.new-1": 2, "packed/.new-2": 0, "packed/of-another": 9, "parts/a": 3, "parts/b": 0, "bundles/index.json": 9, "machine/base.tar": 90, "mine": 9,
	} {
		put(name, "12345")
		used(name, days)
	}
	put("build/tmp-x/work/y", "1")
	used("build/tmp-x", 2)
	return cache, filepath.Join(cache, "bundles", "slipway-aaaaaaaaaaaaaaaa")
}

var names = map[string]string{} // directories of bundles by content

func TestPrune(t *testing.T) {
	cache, own := oldCache(t)
	look := func(mounted bool) (paths []string, bytes int64) {
		t.Helper()
		found, err := FindUnused(cache, own, filepath.Join(cache, "packed"), mounted)
		must(t, err)
		for _, u := range found {
			rel, _ := filepath.Rel(cache, u.Path)
			if u.Why == "" {
				t.Errorf("%s: no reason", rel)
			}
			if strings.HasPrefix(rel, "packed/") && !strings.Contains(rel, ".new") {
				rel = "packed"
			}
			paths = append(paths, rel)
			bytes += u.Bytes
		}
		slices.Sort(paths)
		return paths, bytes
	}
	expect := func(got []string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("found are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// Machines see all bundles, so that what belongs to them stays too.
	got, _ := look(true)
	expect(got, "packed/.new-1", "parts/a", "build/tmp-x")

	got, bytes := look(false)
	expect(got, names["newest"], names["older"], "build/c-newest", "build/c-older", "packed", "packed", "bundles/slipway-bbbbbbbbbbbbbbbb",
		"packed/.new-1", "parts/a", "build/tmp-x")
	// Programs of bundles have two names, and are freed once.
	if want := int64(len("newest")+len("older")+len("packed newest")+len("packed older")+16+5+5+1) + sizes(t, cache, "newest", "older"); bytes != want {
		t.Errorf("%d bytes are freed, want %d", bytes, want)
	}

	found, err := FindUnused(cache, own, filepath.Join(cache, "packed"), false)
	must(t, err)
	use(filepath.Join(cache, names["newest"])) // by a run, since it was found
	if _, err := Remove(t.Context(), cache, found, func() {}); err != nil {
		t.Fatal(err)
	}
	if left, _ := look(false); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	for path, there := range map[string]bool{
		names["newest"]: true, names["today"]: true, names["other release"]: true, names["older"]: false, "mine": true, "machine/base.tar": true,
		"packed/of-another": true, "packed/.new-2": true, "packed/.new-1": false, "bundles/slipway-aaaaaaaaaaaaaaaa": true, "bundles/slipway-cccccccccccccccc": true,
		"bundles/slipway-bbbbbbbbbbbbbbbb": false,
	} {
		if _, err := os.Stat(filepath.Join(cache, path)); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// sizes are the bytes of what describes bundles and their components.
func sizes(t *testing.T, cache string, contents ...string) (n int64) {
	t.Helper()
	for _, content := range contents {
		for _, file := range []string{filepath.Join(cache, names[content], "bundle.json"), filepath.Join(cache, "build", "c-"+content, "component.json")} {
			text, err := os.ReadFile(file)
			must(t, err)
			if !json.Valid(text) {
				t.Errorf("%s is no JSON", file)
			}
			n += int64(len(text))
		}
	}
	return n
}
