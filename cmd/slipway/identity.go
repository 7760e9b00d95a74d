package main

import (
	"context"
	"errors"
	"sync"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/spec"
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
	o.Hosts.Known = record.Hosts
	if c.provider, err = providers.Open(c.spec, o); err != nil {
		return err
	}
	if r, ok := c.provider.(providers.Resolver); ok {
		return r.Resolve(ctx)
	}
	return nil
}

// introduce asks machines who they are.
func introduce(in *live.SSH) func(context.Context, []spec.Machine) (map[string]spec.Self, map[string]error) {
	return func(ctx context.Context, machines []spec.Machine) (map[string]spec.Self, map[string]error) {
		hosts, closeAll, failed := in.DialAll(ctx, machines)
		defer closeAll()
		selves := map[string]spec.Self{}
		var mu sync.Mutex
		var wait sync.WaitGroup
		for name, h := range hosts {
			wait.Go(func() {
				self, err := observe.Introduce(ctx, h)
				mu.Lock()
				defer mu.Unlock()
				if selves[name] = self; err != nil {
					failed[name] = err
				}
			})
		}
		wait.Wait()
		return selves, failed
	}
}

// recall opens the state for reading, and identifies the cluster by it. If nothing was applied yet, it
// returns nil, and identifies nothing.
func (c *cluster) recall(ctx context.Context) (*state.Store, error) {
	store, err := c.readStoreIfAny(ctx)
	if err != nil || store == nil {
		return nil, err
	}
	if err := c.identify(ctx, store); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// identifyToChange is identify for commands that change the cluster.
func (c *cluster) identifyToChange(ctx context.Context, store *state.Store) error {
	if err := c.identify(ctx, store); err != nil {
		return err
	}
	return c.record.CheckSpecFile(c.spec, c.specPath)
}
