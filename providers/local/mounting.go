package local

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// Mounting returns the names of the containers of this computer, running or not, that see the bundles of
// a cache: what they see must not be removed. If Docker does not answer, that is unknown, and an error.
func Mounting(ctx context.Context, cacheDir string) ([]string, error) {
	docker, err := newDocker()
	if err != nil {
		return nil, err
	}
	defer docker.Close() //nolint:errcheck // only asked
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	list, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("ask Docker for machines that mount bundles: %w", err)
	}
	dir := filepath.Join(resolved(cacheDir), "bundles")
	var names []string
	for _, c := range list.Items {
		sees := within(resolved(c.Labels[labelBundles]), dir)
		for _, m := range c.Mounts {
			sees = sees || within(resolved(m.Source), dir)
		}
		if sees {
			names = append(names, strings.TrimPrefix(slices.Concat(c.Names, []string{c.ID})[0], "/"))
		}
	}
	slices.Sort(names)
	return names, nil
}

// resolved is a path without links, as far as it exists.
func resolved(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// within reports whether one of two directories contains the other, or they are the same.
func within(a, b string) bool {
	below := func(x, y string) bool {
		rel, err := filepath.Rel(x, y)
		return err == nil && filepath.IsLocal(rel)
	}
	return a != "" && b != "" && (below(a, b) || below(b, a))
}
