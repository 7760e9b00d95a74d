package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/plan"
)

// mirroring is what `slipway bundle mirror` has written.
type mirroring struct {
	Directory string       `json:"directory"` // absolute
	Files     []mirrorFile `json:"files"`
}

// mirrorFile is a compressed program or image in the directory of a mirror.
type mirrorFile struct {
	File      string `json:"file"`
	Bytes     int64  `json:"bytes"`
	Added     bool   `json:"added"` // it was not there before
	Component string `json:"component"`
	Version   string `json:"version"`
	Path      string `json:"path"` // in the bundle
	OS        string `json:"os"`
	Arch      string `json:"arch"`
}

// newBundleMirrorCmd is `slipway bundle mirror`.
func newBundleMirrorCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "mirror DIRECTORY [digest or directory]...",
		Short: "Write what machines fetch from a mirror to a directory",
		Long: `Write the programs and images of bundles, compressed, to a directory. Any web server that serves its files is a mirror: with
its URL as spec.bundle.url, machines fetch what they need from there themselves, and this computer sends only slipway.

The names of the files are their digests, so one directory serves all versions and processors. What is there stays, and only
what is missing or damaged is written. Without digests or directories of bundles, all bundles in the cache are taken.`,
		Example: `  slipway bundle mirror /srv/mirror                    # every bundle in the cache
  slipway bundle mirror /srv/mirror 0123456789abcdef   # one of them
  rsync -a /srv/mirror/ web:/var/www/slipway/          # spec.bundle.url is https://web/slipway then`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return cachedDigests(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" { // an unset variable of a script; the working directory is "."
				return errors.New("the directory of the mirror is empty: name one, such as /srv/mirror")
			}
			bundles, broken, err := openBundles(args[1:])
			if err != nil {
				return err
			}
			if len(bundles) == 0 && broken == nil {
				return errors.New("there is no bundle in the cache: make one with `slipway bundle build` or `slipway bundle download` first")
			}
			if len(bundles) == 0 {
				return broken
			}
			m, err := mirrorBundles(cmd.Context(), args[0], bundles)
			if err != nil {
				return err
			}
			return errors.Join(a.printMirror(m), broken)
		},
	}
}

// cachedDigests are the names of the bundles in the cache.
func cachedDigests() (names []string) {
	bundles, _, _ := openBundles(nil) // completion says nothing of what is broken
	for _, b := range bundles {
		names = append(names, b.Digest)
	}
	return names
}

// mirrorBundles writes bundles to the directory of a mirror. They are compressed into the cache first,
// from where runs compress too: so the digests of both are the same.
func mirrorBundles(ctx context.Context, dir string, bundles []*bundle.Bundle) (mirroring, error) {
	fail := func(err error) (mirroring, error) {
		return mirroring{}, fmt.Errorf("write a mirror to %s: %w", dir, err)
	}
	cache, err := cacheDir()
	if err != nil {
		return fail(err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a web server reads it
		return fail(err)
	}
	type source struct {
		*bundle.Bundle
		bundle.Artifact
	}
	var sources []source
	for _, b := range bundles {
		for _, f := range b.Artifacts {
			if !slices.ContainsFunc(sources, func(s source) bool { return s.SHA256 == f.SHA256 }) { // in several bundles
				sources = append(sources, source{b, f})
			}
		}
	}
	m := mirroring{Directory: dir, Files: make([]mirrorFile, len(sources))}
	packer := delivery.NewPacker(packedDir(cache))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4) // as many as read a bundle
	for i, s := range sources {
		group.Go(func() error {
			blob, err := packer.Pack(ctx, s.File(s.Artifact), s.SHA256, delivery.Zstd)
			if err != nil {
				return err
			}
			added, err := delivery.Publish(ctx, blob, dir)
			m.Files[i] = mirrorFile{
				File: blob.Name(), Bytes: blob.Size, Added: added, Component: s.Component, Version: s.Version, Path: s.Path, OS: s.OS, Arch: s.Artifact.Arch,
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fail(err)
	}
	return m, nil
}

func (a *app) printMirror(m mirroring) error {
	if a.output == "json" {
		return a.printJSON(m)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "COMPONENT\tVERSION\tPATH\tPLATFORM\tSIZE\tMIRROR")
	added, bytes := 0, int64(0)
	for _, f := range m.Files {
		state := "was there"
		if f.Added {
			state = "added"
			added++
			bytes += f.Bytes
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s/%s\t%d MB\t%s\n", f.Component, f.Version, f.Path, f.OS, f.Arch, f.Bytes>>20, state)
	}
	_, _ = fmt.Fprintf(w, "Added to %s: %s, %d MB. Have a web server serve it, and write its URL as spec.bundle.url.\n",
		m.Directory, plan.Count(added, "file"), bytes>>20)
	return w.Flush()
}
