package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/providers/local"
	"slipway.dev/slipway/provision/bundle"
)

// pruning is what `slipway bundle prune` can remove.
type pruning struct {
	Removed bool            `json:"removed"`
	Bytes   int64           `json:"bytes"`
	Unused  []bundle.Unused `json:"unused"`
	// Kept is why the bundles stay whatever their age; empty if they need not.
	Kept string `json:"kept,omitempty"`
}

// newBundlePruneCmd is `slipway bundle prune`.
func newBundlePruneCmd(a *app) *cobra.Command {
	var dry, unmounted bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove from this computer's cache what no run needs any more",
		Long: `Remove from the cache: bundles of a release of which another one was used later, builds of slipway other than this one,
components and compressed programs of neither, and what runs that were killed have left. What was used within a
day stays. Nodes have what they need, and what is removed is made again when it is needed.

Local machines see the bundles. If a container that mounts them exists, running or not, or if Docker cannot be asked, all
bundles stay.`,
		Example: `  slipway bundle prune --dry-run       # list what would be removed, and how much that frees
  slipway bundle prune                 # ask, then remove it
  slipway bundle prune --no-machines   # without asking Docker: there are no local machines`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.prune(cmd.Context(), dry, unmounted)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only list what would be removed")
	cmd.Flags().BoolVar(&unmounted, "no-machines", false, "do not ask Docker: no local machine mounts the bundles")
	return cmd
}

func (a *app) prune(ctx context.Context, dry, unmounted bool) error {
	dir, err := cacheDir()
	if err != nil {
		return err
	}
	var p pruning
	if !unmounted {
		p.Kept = mounted(ctx, dir)
	}
	_, own, err := bundle.Self(dir)
	if err != nil {
		return err
	}
	if p.Unused, err = bundle.FindUnused(dir, own, packedDir(dir), p.Kept != ""); err != nil {
		return err
	}
	for _, u := range p.Unused {
		p.Bytes += u.Bytes
	}
	if a.output != "json" {
		if err := a.printUnused(dir, p); err != nil {
			return err
		}
	}
	if !dry && len(p.Unused) > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Remove them, and free %d MB?", p.Bytes>>20)); err != nil {
			return err
		}
		waiting := func() { _, _ = fmt.Fprintln(a.stderr, "waiting for another slipway that is at work in "+dir) }
		if p.Bytes, err = bundle.Remove(ctx, dir, p.Unused, waiting); err != nil {
			return fmt.Errorf("remove from the cache: %w", err)
		}
		p.Removed = true
	}
	if a.output == "json" {
		return a.printJSON(p)
	}
	if p.Removed {
		_, err = fmt.Fprintf(a.stdout, "%d MB were freed.\n", p.Bytes>>20)
	}
	return err
}

// mounted is why bundles may be in use by local machines, "" if they are not.
func mounted(ctx context.Context, dir string) string {
	names, err := local.Mounting(ctx, dir)
	switch {
	case err != nil:
		return fmt.Sprintf("whether local machines mount them is unknown (%v); if there are none, give --no-machines", err)
	case len(names) > 0:
		return "they are mounted by " + strings.Join(names, ", ")
	}
	return ""
}

func (a *app) printUnused(dir string, p pruning) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	for _, u := range p.Unused {
		name := u.Path
		if below, err := filepath.Rel(dir, u.Path); err == nil {
			name = below
		}
		_, _ = fmt.Fprintf(w, "%s\t%d MB\t%s\n", name, u.Bytes>>20, u.Why)
	}
	if p.Kept != "" {
		_, _ = fmt.Fprintf(w, "All bundles stay: %s.\n", p.Kept)
	}
	if len(p.Unused) == 0 {
		_, _ = fmt.Fprintf(w, "Nothing in %s can be removed.\n", dir)
	} else {
		_, _ = fmt.Fprintf(w, "%d MB can be freed in %s.\n", p.Bytes>>20, dir)
	}
	return w.Flush()
}
