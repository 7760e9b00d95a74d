package main

import (
	"context"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/state"
)

// identify determines which cluster the state belongs to, and opens the provider for it.
func (c *cluster) identify(ctx context.Context, store *state.Store) error {
	record, err := provision.ReadRecord(ctx, store, c.spec, c.state)
	if err != nil {
		return err
	}
	c.record = record
	o := c.options
	o.UID, o.Claimed = record.UID, record.Older && !record.Known
	if up := record.Up; up != nil {
		o.Addresses = up.Addresses()
	}
	c.provider, err = providers.Open(c.spec, o)
	return err
}

// identifyToChange is identify for commands that change the cluster.
func (c *cluster) identifyToChange(ctx context.Context, store *state.Store) error {
	if err := c.identify(ctx, store); err != nil {
		return err
	}
	return c.record.CheckSpecFile(c.spec, c.specPath)
}
