package stack

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Version is what a host still has of a version of a component that it now wants in another one.
type Version struct {
	// Dir is the version's directory, and Files the digests that slipway recorded when it put them
	// there, by path.
	Dir   string            `json:"dir"`
	Files map[string]string `json:"files"`
	// Placed is when the last of them was put in place, by the host's clock, and Bytes what they
	// take on its disk.
	Placed time.Time `json:"-"`
	Bytes  int64     `json:"-"`
	// Users are what uses it, besides the main processes of slipway's own units: those are started
	// from another version before this one is removed.
	Users []string `json:"-"`
}

// Component is the component's name.
func (v Version) Component() string { return path.Base(path.Dir(v.Dir)) }

// versionOf returns the directory of the version that an artifact belongs to (Artifact.Path); "" if
// the path is of another form.
func versionOf(p string) string {
	below, ok := strings.CutPrefix(p, ProgramDir)
	words := strings.Split(below, "/")
	if !ok || len(words) != 4 || words[2] != "bin" && words[2] != "images" || slices.Contains(words, "") || slices.Contains(words, "..") {
		return ""
	}
	return path.Join(ProgramDir, words[0], words[1])
}

// Superseded returns the versions that slipway once put on a host, of components that it now wants
// in another version; sorted by directory. Only files count that it recorded as its own and that are
// still there.
func Superseded(want map[string]File, have HostState) []Version {
	components := map[string]bool{}
	for p := range want {
		if dir := versionOf(p); dir != "" {
			components[path.Dir(dir)] = true
		}
	}
	all := map[string]Version{}
	for p, digest := range have.Owned {
		dir, f := versionOf(p), have.Files[p]
		_, wanted := want[p]
		if _, there := have.Files[p]; dir == "" || wanted || !there || !components[path.Dir(dir)] {
			continue
		}
		v, ok := all[dir]
		if !ok {
			v = Version{Dir: dir, Files: map[string]string{}}
		}
		v.Files[p] = digest
		if f.Changed.After(v.Placed) {
			v.Placed = f.Changed
		}
		all[dir] = v
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Version) int { return cmp.Compare(a.Dir, b.Dir) })
}

// Excess returns the versions that nothing uses and that are more than keep of their component: those
// that were put in place first. A version in use is kept, and does not count.
func Excess(versions []Version, keep int) []Version {
	newest := slices.DeleteFunc(slices.Clone(versions), func(v Version) bool { return len(v.Users) > 0 })
	slices.SortStableFunc(newest, func(a, b Version) int { return b.Placed.Compare(a.Placed) })
	kept := map[string]int{}
	var excess []Version
	for _, v := range newest {
		if kept[v.Component()] >= keep {
			excess = append(excess, v)
		}
		kept[v.Component()]++
	}
	slices.SortFunc(excess, func(a, b Version) int { return cmp.Compare(a.Dir, b.Dir) })
	return excess
}

// OwnershipWith is Ownership of files and of versions, which slipway owns as long as they are there.
func OwnershipWith(files map[string]File, versions []Version) []byte {
	for _, v := range versions {
		files = Union(files, v.Files)
	}
	return Ownership(files)
}
