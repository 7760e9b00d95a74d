package main

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/state"
)

func newStateCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Free a lock, move the state into a bucket, or forget a host key",
		Example: `  slipway state import ~/.local/state/slipway/demo   # into the bucket that the spec names
  slipway state unlock 3KQ5W2Z6X7T4R1P0M9N8B7V6C5    # the ID is in the error that names the holder
  slipway state forget-host-key 192.0.2.11:22        # the address is in the error that refuses the new key`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "unlock ID",
			Short: "Free the lock in S3 of a slipway that is known to be dead",
			Long: `Free the lock in S3 of a slipway that is known to be dead. Such a lock expires after 70 seconds: this command is for
those who cannot wait. The error that names the holder of the lock contains the ID. If the holder is alive after all, it
stops when it finds its lock gone.`,
			Example: `  slipway state unlock 3KQ5W2Z6X7T4R1P0M9N8B7V6C5`,
			Args:    cobra.ExactArgs(1),
			RunE:    func(cmd *cobra.Command, args []string) error { return a.unlockState(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use:   "import DIRECTORY",
			Short: "Copy a state from a directory to the place that the spec names",
			Long: `Copy a state from a directory to the place that the spec names, for example a bucket. There must be no state there yet.
The directory is kept, for you to remove; logs are not copied.`,
			Example: `  slipway state import ~/.local/state/slipway/demo`,
			Args:    cobra.ExactArgs(1),
			RunE:    func(cmd *cobra.Command, args []string) error { return a.importState(cmd.Context(), args[0]) },
		},
		newForgetHostKeyCmd(a),
	)
	return cmd
}

func (a *app) unlockState(ctx context.Context, id string) error {
	c, err := a.loadSpec()
	if err != nil {
		return err
	}
	o, _, err := a.stateOf(c)
	if err != nil {
		return err
	}
	if o.S3 == nil {
		return fmt.Errorf("the state in %s is locked by a process on this computer, and freed as soon as that ends", o)
	}
	if err := a.confirm(ctx, fmt.Sprintf("Free the lock of %s? Only if its holder is dead!", o)); err != nil {
		return err
	}
	return state.Unlock(ctx, *o.S3, id)
}

func (a *app) importState(ctx context.Context, dir string) (err error) {
	c, err := a.loadSpec()
	if err != nil {
		return err
	}
	o, _, err := a.stateOf(c)
	if err != nil {
		return err
	}
	from, err := state.OpenReadOnly(ctx, state.Options{Dir: dir, Keys: o.Keys})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	items, err := from.GetAll(ctx, "")
	if err != nil {
		return err
	}
	to, err := state.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	names, err := to.List(ctx, "")
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%s already has a state, with %d names; nothing was changed", to, len(names))
	}
	// The secrets come first, all or nothing: if the copy was killed before that, runs alone would
	// look like a state.
	runs := map[string]secret.Bytes{}
	maps.DeleteFunc(items, func(name string, content secret.Bytes) bool {
		if state.IsLoose(name) {
			runs[name] = content
		}
		return state.IsLoose(name)
	})
	if err := to.Put(ctx, items); err != nil {
		return err
	}
	if err := to.Put(ctx, runs); err != nil {
		return fmt.Errorf("the state was copied, but not all of its runs: %w", err)
	}
	_, err = fmt.Fprintf(a.stderr, "Copied %d names from %s to %s.\n", len(items)+len(runs), from, to)
	return err
}
