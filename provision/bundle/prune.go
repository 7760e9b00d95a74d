package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fresh is how long something in the cache stays after its last use, whatever it is: a run may be at
// work with it.
const fresh = 24 * time.Hour

// Unused is a file or directory of the cache that can be removed.
type Unused struct {
	Path string `json:"path"`
	// Bytes are freed if all of a list are removed: files that have other names too free nothing.
	Bytes int64  `json:"bytes"`
	Why   string `json:"why"`
}

// use notes that a directory below bundles is in use now: its modification time says when that was
// last. Its files, which are known by their own times, stay as they are.
func use(dir string) {
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // without it, it only seems older
}

// FindUnused lists what no run needs any more of a cache, and of packed, the directory below it with
// compressed programs: other bundles of a release and architecture than the one used last, other builds
// of slipway than the one whose directory is own (and those for other architectures that belong to it),
// components and compressed programs of neither, and what runs that were killed have left. What was
// used within a day stays. If mounted, machines see the directory of the bundles, and all of it stays.
func FindUnused(cacheDir, own, packed string, mounted bool) ([]Unused, error) {
	cacheDir, err := filepath.Abs(cacheDir)
	if err != nil {
		return nil, fmt.Errorf("look for what is unused: %w", err)
	}
	s := search{cache: cacheDir, own: []string{filepath.Base(own)}, mounted: mounted, now: time.Now(), wanted: map[string]bool{}}
	for _, version := range readSiblings(cacheDir).all(strings.TrimPrefix(filepath.Base(own), selfPrefix)) {
		s.own = append(s.own, selfPrefix+version)
	}
	for _, look := range []func() error{
		s.bundles,
		func() error { return s.components(FromBuild) },
		func() error { return s.components(FromDownload) },
		s.parts,
		func() error { return s.packed(packed) },
	} {
		if err := look(); err != nil {
			return nil, fmt.Errorf("look for what is unused: %w", err)
		}
	}
	return s.found, s.measure()
}

// search is one look through a cache.
type search struct {
	cache   string
	own     []string // directories of this slipway, for each architecture
	mounted bool
	now     time.Time
	wanted  map[string]bool // SHA-256 of programs that stay
	found   []Unused
}

// entries lists a directory; one that does not exist has none.
func entries(dir string) ([]fs.DirEntry, error) {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// old reports whether nothing has used a path within a day; one that has just gone is not.
func (s *search) old(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && s.now.Sub(info.ModTime()) > fresh
}

func (s *search) add(path, why string) { s.found = append(s.found, Unused{Path: path, Why: why}) }

// bundles looks at bundles, and builds of slipway, from the one used last. What is not known to be one of
// these stays.
func (s *search) bundles() error {
	root := filepath.Join(s.cache, "bundles")
	all, err := entries(root)
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	for _, e := range all {
		if info, err := e.Info(); err == nil {
			used[e.Name()] = info.ModTime()
		}
	}
	slices.SortStableFunc(all, func(a, b fs.DirEntry) int { return used[b.Name()].Compare(used[a.Name()]) })
	newest := map[string]bool{}
	for _, e := range all {
		path := filepath.Join(root, e.Name())
		digest, ofSlipway := strings.CutPrefix(e.Name(), selfPrefix)
		switch {
		case !e.IsDir() || !digestName.MatchString(digest):
		case ofSlipway:
			s.slipway(path)
		default:
			s.bundle(path, newest)
		}
	}
	return nil
}

// bundle looks at one; newest are those of which a later one was seen, by release and architecture.
func (s *search) bundle(path string, newest map[string]bool) {
	b, err := Open(path)
	if err != nil {
		return // `slipway bundle verify` names it
	}
	key := b.KubernetesVersion + " for " + b.Arch()
	if !s.mounted && newest[key] && s.old(path) {
		s.add(path, "another bundle of "+key+" was used later")
		return
	}
	newest[key] = true
	for _, a := range b.Artifacts {
		s.wanted[a.SHA256] = true
	}
}

// slipway looks at a build of slipway. Of one that stays, the compressed form stays too.
func (s *search) slipway(dir string) {
	if !s.mounted && !slices.Contains(s.own, filepath.Base(dir)) && s.old(dir) {
		s.add(dir, "another build of slipway")
		return
	}
	if sum, err := openDigests(s.cache).of(context.Background(), filepath.Join(dir, "bin", "slipway")); err == nil {
		s.wanted[sum] = true
	}
}

// components looks at what bundles were made of.
func (s *search) components(kind Source) error {
	root := filepath.Join(s.cache, string(kind))
	all, err := entries(root)
	if err != nil {
		return err
	}
	for _, e := range all {
		path := filepath.Join(root, e.Name())
		if !e.IsDir() || !s.old(path) {
			continue
		}
		if strings.HasPrefix(e.Name(), temporary) {
			s.add(path, "left by a run that was killed")
			continue
		}
		c, err := openComponent(path)
		if err == nil && !slices.ContainsFunc(c.artifacts, func(a Artifact) bool { return s.wanted[a.SHA256] }) {
			s.add(path, "no bundle has it")
		}
	}
	return nil
}

// parts looks at unfinished downloads.
func (s *search) parts() error {
	root := filepath.Join(s.cache, "parts")
	all, err := entries(root)
	for _, e := range all {
		if path := filepath.Join(root, e.Name()); e.Type().IsRegular() && s.old(path) {
			s.add(path, "an unfinished download")
		}
	}
	return err
}

// packed looks at compressed programs: the SHA-256 of the program begins their names.
func (s *search) packed(root string) error {
	all, err := entries(root)
	for _, e := range all {
		path := filepath.Join(root, e.Name())
		if !e.Type().IsRegular() || !s.old(path) {
			continue
		}
		sum, _, _ := strings.Cut(e.Name(), ".")
		switch {
		case strings.HasPrefix(e.Name(), ".new-"):
			s.add(path, "left by a run that was killed")
		case sha256Hex.MatchString(sum) && !s.wanted[sum]:
			s.add(path, "no bundle has the program")
		}
	}
	return err
}

// measure sets how many bytes are freed: a file frees its bytes at its last name among those that
// are found, if it has no other names.
func (s *search) measure() error {
	type inode struct{ dev, ino uint64 }
	names := map[inode]uint64{}
	for i := range s.found {
		u := &s.found[i]
		err := filepath.WalkDir(u.Path, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			var stat unix.Stat_t
			if err := unix.Lstat(path, &stat); err != nil {
				return err
			}
			at := inode{uint64(stat.Dev), stat.Ino} //nolint:unconvert // of another type on other systems
			names[at]++
			if names[at] == uint64(stat.Nlink) { //nolint:unconvert // as above
				u.Bytes += stat.Size
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("measure %s: %w", u.Path, err)
		}
	}
	slices.SortFunc(s.found, func(a, b Unused) int { return cmp.Compare(a.Path, b.Path) })
	return nil
}

// Remove removes what was found, unless something has used it since. It waits for another process that
// makes bundles in the cache, and calls waiting then. A directory of the bundles is first given another name, so
// that a run finds it whole or not at all.
func Remove(ctx context.Context, cacheDir string, unused []Unused, waiting func()) (bytes int64, err error) {
	unlock, err := lock(ctx, cacheDir, waiting)
	if err != nil {
		return 0, err
	}
	defer unlock()
	s := search{now: time.Now()}
	var errs []error
	for _, u := range unused {
		if ctx.Err() != nil {
			return bytes, errors.Join(append(errs, context.Cause(ctx))...)
		}
		if !s.old(u.Path) {
			continue
		}
		gone := filepath.Join(filepath.Dir(u.Path), "."+temporary+filepath.Base(u.Path))
		if err := errors.Join(os.RemoveAll(gone), os.Rename(u.Path, gone)); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.RemoveAll(gone); err != nil {
			errs = append(errs, err)
			continue
		}
		bytes += u.Bytes
	}
	return bytes, errors.Join(errs...)
}
