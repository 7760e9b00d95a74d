package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// identityName is where the state store keeps which cluster it is of.
const identityName = "cluster.json"

// identify finds out which cluster the state is of, and opens the provider for that one. Where the state (which may be
// nil) knows of none, a new identity is made, and kept in memory until save.
func (c *cluster) identify(ctx context.Context, store *state.Store) error {
	name := c.spec.Metadata.Name
	c.identity = plan.NewIdentity(name)
	if store != nil {
		text, err := store.Get(ctx, identityName)
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing was applied, or by an older slipway
			if err := c.identifyOlder(ctx, store); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if c.identity, err = plan.ReadIdentity(text.Reveal()); err != nil {
				return fmt.Errorf("state %s: %w", store, err)
			}
			c.recorded = true
			if err := c.recallPlugin(ctx, store); err != nil {
				return err
			}
		}
	}
	if err := c.checkIdentity(); err != nil {
		return err
	}
	o := c.options
	o.UID, o.Claimed = c.identity.UID, c.identity.Older && !c.recorded
	if up := c.identity.Up; up != nil {
		o.Addresses = up.Addresses()
	}
	var err error
	c.provider, err = providers.Open(c.spec, o)
	return err
}

// identifyOlder takes what a state of an older slipway has: keys, and what was applied, and no UID. Where the cluster has got
// one since, as where the state is a copy from before, only the spec can say it; machines with the state's keys have to bear
// it out.
func (c *cluster) identifyOlder(ctx context.Context, store *state.Store) error {
	applied, err := readApplied(ctx, store)
	if err != nil {
		return err
	}
	keys, err := store.List(ctx, keys.Prefix)
	if err != nil {
		return err
	}
	c.identity.Up = applied.Up()
	if c.identity.Older = applied != nil || len(keys) > 0; c.identity.Older {
		c.identity.UID = cmp.Or(c.spec.Metadata.UID, c.identity.UID)
	}
	return nil
}

// checkIdentity refuses a spec that is not of the cluster that the state is of.
func (c *cluster) checkIdentity() error {
	id, name := c.identity, c.spec.Metadata.Name
	if id.Name != name {
		return fmt.Errorf("the state %s is of cluster %s, and the spec is of %s: set spec.state to another place, or metadata.name back; nothing was changed",
			c.state, id.Name, name)
	}
	if uid := c.spec.Metadata.UID; uid != "" && uid != id.UID {
		if !c.recorded {
			return fmt.Errorf("metadata.uid is %s, and the state %s knows of no cluster: set SLIPWAY_STATE_DIR or spec.state to where its state is, "+
				"or leave the field out of the spec of a new cluster; nothing was changed", uid, c.state)
		}
		return fmt.Errorf("metadata.uid is %s, and the state %s is of the cluster with the UID %s: set SLIPWAY_STATE_DIR or spec.state to where the other's "+
			"is; nothing was changed", uid, c.state, id.UID)
	}
	return nil
}

// identifyToChange is identify for what changes the cluster.
func (c *cluster) identifyToChange(ctx context.Context, store *state.Store) error {
	if err := c.identify(ctx, store); err != nil {
		return err
	}
	return c.checkSpecFile()
}

// checkSpecFile keeps two specs of one name from being taken for one cluster.
func (c *cluster) checkSpecFile() error {
	last := c.identity.SpecFile
	if last == "" || last == c.specPath || c.specPath == "-" || c.spec.Metadata.UID != "" {
		return nil
	}
	other, err := spec.Load(last)
	what, mend := "which is still there", ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // this one has taken its place
	case err != nil: // whose it is by now nobody can tell
		what, mend = fmt.Sprintf("which is still there and cannot be read (%v)", err), ", or mend that file"
	case other.Metadata.Name != c.identity.Name || other.Metadata.UID != "" && other.Metadata.UID != c.identity.UID:
		return nil // it is another cluster's by now
	}
	return fmt.Errorf("cluster %s was last applied from %s, %s, and this is %s: two specs of one name would be one cluster. If this is another cluster, give "+
		"it another metadata.name. If it is the same, write `uid: %s` into its metadata%s; nothing was changed",
		c.identity.Name, last, what, c.specPath, c.identity.UID, mend)
}

// saveIdentity records which cluster it is, and from which file, before anything is made.
func (c *cluster) saveIdentity(ctx context.Context, store *state.Store) error {
	id := c.identity
	if c.specPath != "-" {
		id.SpecFile = c.specPath
	}
	if c.recorded && id.SpecFile == c.identity.SpecFile {
		return nil
	}
	return c.putIdentity(ctx, store, id)
}

func (c *cluster) putIdentity(ctx context.Context, store *state.Store, id plan.Identity) error {
	text, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("record the cluster's identity: %w", err)
	}
	if err := store.Put(ctx, map[string]secret.Bytes{identityName: text}); err != nil {
		return err
	}
	c.identity, c.recorded = id, true
	return nil
}

// begin records that the cluster begins again without its data, before any host is told: the hosts have shown that there is
// none. What is known of the cluster of before stays until this one is up.
func (w *work) begin(ctx context.Context) error {
	if w.beginning == "" || w.beginning == w.identity.Rebuilding {
		return nil
	}
	id := w.identity
	id.Rebuilding = w.beginning
	return w.putIdentity(ctx, w.store, id)
}

// rebuildArg is the flag, as what goes on with this run has to be given it.
func (w *work) rebuildArg() string {
	if w.rebuild == "" {
		return ""
	}
	return " --rebuild-empty " + w.rebuild
}

// recorder changes, one call at a time, what the state knows of a cluster that is up.
func (w *work) recorder() func(context.Context, func(*plan.Up) *plan.Up) error {
	var mu sync.Mutex
	return func(ctx context.Context, change func(*plan.Up) *plan.Up) error {
		mu.Lock()
		defer mu.Unlock()
		id := w.identity.Recorded(w.runner.Input.Generation, change)
		if id.Equal(w.identity) && w.recorded {
			return nil
		}
		return w.putIdentity(ctx, w.store, id)
	}
}
