package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision"
)

func newForgetHostKeyCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "forget-host-key ADDRESS",
		Short: "Forget the SSH host key of a machine or bastion that was trusted on first use",
		Long: `Forget the SSH host key of a machine or bastion that was trusted on first use (trustOnFirstUse), for example because the
machine was reinstalled. The next plan or apply accepts and records the key that it then has. ADDRESS is HOST:PORT, as in the
error that refuses the new key.`,
		Example: `  slipway state forget-host-key 192.0.2.11:22`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.forgetHostKey(cmd.Context(), args[0]) },
	}
}

func (a *app) forgetHostKey(ctx context.Context, address string) (err error) {
	loaded, err := a.loadSpec()
	if err != nil {
		return err
	}
	a.given = loaded // no program has to list machines
	c, err := a.open(ctx)
	if err != nil {
		return err
	}
	store, err := c.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	record, err := provision.ReadRecord(ctx, store, c.spec, c.state)
	if err != nil {
		return err
	}
	if _, ok := record.Hosts.HostKeys[address]; !ok {
		have := "it has none"
		if len(record.Hosts.HostKeys) > 0 {
			have = "it has those of " + list(slices.Sorted(maps.Keys(record.Hosts.HostKeys)))
		}
		return fmt.Errorf("the state %s has no host key of %s that was trusted on first use; %s", store, address, have)
	}
	if err := a.confirm(ctx, fmt.Sprintf("Forget the host key of %s, and trust the one that it shows next?", address)); err != nil {
		return err
	}
	if err := record.ForgetHostKey(ctx, store, address); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stderr, "The host key of %s is forgotten. `slipway apply%s` records the one that it shows next.\n", address, a.fileArg())
	return err
}
