package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func newDestroyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "destroy",
		Short: "Remove the cluster's machines and its state, keys included",
		Long: `Remove everything that apply made: machines, their disks and network, and the cluster's state with its keys and
certificates, in a directory or in S3. Nothing of it can be brought back. Bundles and machine images stay in the cache.`,
		Example: `  slipway destroy                      # the cluster in ./cluster.yaml, after a question
  slipway destroy -f prod.yaml --yes   # no question`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.destroy(cmd.Context()) },
	}
}

func (a *app) destroy(ctx context.Context) (err error) {
	c, err := a.open()
	if err != nil {
		return err
	}
	name := c.spec.Metadata.Name
	if err := a.confirm(ctx, fmt.Sprintf("Destroy cluster %s, all that runs on it and its keys?", name)); err != nil {
		return err
	}
	store, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	progress := newProgress(a.stderr, isTerminal(a.stderr), io.Discard, c.names())
	progress.Phase("destroy")
	err = underLock(ctx, store, func(ctx context.Context) error { return c.provider.Destroy(ctx, progress.Host) })
	progress.Done(err)
	if err != nil {
		return err
	}
	// The machines are gone: what the state knew of them is worth nothing, and its keys should not lie about.
	if err := store.Destroy(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the cluster's state: %w", err)
	}
	return nil
}
