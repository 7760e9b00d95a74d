package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// source makes components. It is the difference between Build and Download.
type source interface {
	// kind is the name of the cache directory for its components.
	kind() Source
	// version is the version of the component that make returns.
	version(r recipe) string
	// digest changes whenever make would give something else.
	digest(ctx context.Context, r recipe) (string, error)
	// slots is the capacity for components made in parallel, and weight a recipe's share of it.
	slots() int64
	weight(r recipe) int64
	// make puts the recipe's programs into dir/bin, under their names. It may use dir/work as it
	// likes.
	make(ctx context.Context, r recipe, dir string) error
}

// component is the result of a recipe: a directory with component.json, bin/ or images/.
type component struct {
	dir       string
	artifacts []Artifact // paths relative to dir
}

// collect gets every component of a release, from the cache or from the source, and makes the
// bundle of them.
func collect(ctx context.Context, o Options, rows []recipe, src source) (*Bundle, error) {
	start := time.Now()
	unlock, err := lock(ctx, o.CacheDir, func() {
		o.Progress(Event{Phase: Waiting, Detail: "another slipway is at work in " + o.CacheDir})
	})
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(o.CacheDir, src.kind()); err != nil {
		return nil, err
	}
	components, err := getComponents(ctx, o, rows, src)
	if ctx.Err() != nil { // not what the child processes said when they were stopped
		return nil, fmt.Errorf("bundle: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	b, err := assemble(ctx, o, components)
	if err != nil {
		return nil, err
	}
	if err := record(o, rows, src.kind(), b.Digest); err != nil {
		return nil, err
	}
	if err := o.memo.save(); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	o.Progress(Event{Phase: Assembled, Elapsed: time.Since(start), Detail: b.Dir})
	return b, nil
}

// getComponents returns the components of rows, those that the cache lacks made side by side.
func getComponents(ctx context.Context, o Options, rows []recipe, src source) ([]component, error) {
	components := make([]component, len(rows))
	slots := semaphore.NewWeighted(src.slots())
	group, ctx := errgroup.WithContext(ctx)
	for i, r := range rows { // in order, so that what takes longest begins first
		dir, c, err := lookUp(ctx, o, r, src)
		if c != nil {
			components[i] = *c
			continue
		}
		if err == nil {
			err = slots.Acquire(ctx, src.weight(r))
		}
		if err != nil {
			group.Go(func() error { return named(r, err) }) // counts only if it is the first
			break
		}
		group.Go(func() (err error) {
			defer slots.Release(src.weight(r))
			components[i], err = makeComponent(ctx, o, r, src, dir)
			if err != nil && ctx.Err() == nil {
				first, _, _ := strings.Cut(err.Error(), "\n")
				o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Failed, Detail: first})
			}
			return named(r, err)
		})
	}
	return components, group.Wait()
}

// temporary is the prefix of incomplete directories; the holder of the lock may remove those of
// others.
const temporary = "tmp-"

// sweep removes what runs that were killed left half made.
func sweep(cacheDir string, kind Source) error {
	entries, err := os.ReadDir(filepath.Join(cacheDir, string(kind)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), temporary) {
			if err := os.RemoveAll(filepath.Join(cacheDir, string(kind), entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func named(r recipe, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", r.Component, r.Version, err)
}

// lookUp returns the cache directory of a component, and the component if it exists.
func lookUp(ctx context.Context, o Options, r recipe, src source) (dir string, c *component, err error) {
	digest, err := src.digest(ctx, r)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(o.CacheDir, string(src.kind()), r.Component+"-"+digest)
	found, err := openComponent(dir)
	if err == nil {
		err = found.check(ctx, o)
	}
	if ctx.Err() != nil {
		return dir, nil, context.Cause(ctx)
	}
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Damaged, Detail: err.Error()})
		}
		return dir, nil, nil // missing or incomplete: make it
	}
	o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Cached})
	return dir, &found, nil
}

// makeComponent makes a component next to dir and moves it there when it is complete.
func makeComponent(ctx context.Context, o Options, r recipe, src source, dir string) (component, error) {
	start, parent := time.Now(), filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return component{}, err
	}
	tmp, err := os.MkdirTemp(parent, temporary+r.Component+"-")
	if err != nil {
		return component{}, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // swept by the next run
	for _, sub := range []string{"work", "bin"} {
		if err := os.Mkdir(filepath.Join(tmp, sub), 0o750); err != nil {
			return component{}, err
		}
	}
	if err := src.make(ctx, r, tmp); err != nil {
		return component{}, err
	}
	if err := finish(ctx, r, tmp, src.version(r), o.Arch); err != nil {
		return component{}, err
	}
	if err := os.RemoveAll(dir); err != nil { // one that openComponent refused
		return component{}, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return component{}, err
	}
	o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Done, Elapsed: time.Since(start)})
	return openComponent(dir)
}

// finish turns programs in dir/bin into the component's artifacts and writes component.json.
func finish(ctx context.Context, r recipe, dir, version, arch string) error {
	if err := os.RemoveAll(filepath.Join(dir, "work")); err != nil {
		return err
	}
	var artifacts []Artifact
	for _, name := range r.names() {
		a := Artifact{
			Name: name, Component: r.Component, Version: version, Kind: Binary, OS: "linux", Arch: arch, Path: "bin/" + name,
		}
		file := filepath.Join(dir, a.Path)
		if err := os.Chmod(file, 0o755); err != nil { //nolint:gosec // hosts execute it
			return err
		}
		if err := checkProgram(file, arch); err != nil {
			return err
		}
		if r.Image != nil {
			a.Name, a.Kind, a.Ref, a.Path = r.imageFile(), Image, r.Image.Ref, "images/"+r.imageFile()
			if err := os.Mkdir(filepath.Join(dir, "images"), 0o750); err != nil {
				return err
			}
			if err := writeImage(filepath.Join(dir, a.Path), *r.Image, file, arch); err != nil {
				return err
			}
			if err := os.Remove(file); err != nil {
				return err
			}
		}
		if err := a.measure(ctx, filepath.Join(dir, a.Path)); err != nil {
			return err
		}
		artifacts = append(artifacts, a)
	}
	return writeJSON(filepath.Join(dir, "component.json"), artifacts)
}

// measure fills in digest and size.
func (a *Artifact) measure(ctx context.Context, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	a.Size = info.Size()
	a.SHA256, err = fileDigest(ctx, file)
	return err
}

// openComponent reads component.json; it fails if the component is not whole.
func openComponent(dir string) (component, error) {
	c := component{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, "component.json")) //nolint:gosec // a file of the cache
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c.artifacts); err != nil {
		return c, err
	}
	for _, a := range c.artifacts {
		if err := a.present(filepath.Join(dir, a.Path)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// check compares the component's files with what they were when they were made.
func (c component) check(ctx context.Context, o Options) error {
	var errs []error
	for _, a := range c.artifacts {
		errs = append(errs, o.memo.holds(ctx, a, filepath.Join(c.dir, a.Path)))
	}
	return errors.Join(errs...)
}
