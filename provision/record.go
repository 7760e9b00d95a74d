package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// identityName is where the state has which cluster it is of.
const identityName = "cluster.json"

// Record is what the state knows of its cluster.
type Record struct {
	plan.Identity
	// Known reports whether the state has it; else it was made now, or taken from an older state.
	Known bool
}

// ReadRecord finds out which cluster the state is of. If the state (which may be nil) knows of none, a new identity is made
// and kept in memory. where names the state in errors.
func ReadRecord(ctx context.Context, store *state.Store, c *spec.Cluster, where fmt.Stringer) (*Record, error) {
	r := &Record{Identity: plan.NewIdentity(c.Metadata.Name)}
	if store != nil {
		text, err := store.Get(ctx, identityName)
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing was applied, or by an older slipway
			err = r.readOlder(ctx, store, c)
		case err == nil:
			if r.Identity, err = plan.ReadIdentity(text.Reveal()); err != nil {
				return nil, fmt.Errorf("state %s: %w", store, err)
			}
			r.Known = true
			err = r.recallPlugin(ctx, store)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, r.check(c, where)
}

// readOlder takes what a state of an older slipway has: keys, and what was applied, and no UID. Where the cluster has got
// one since, as where the state is a copy from before, only the spec can say it; machines with the state's keys have to bear
// it out.
func (r *Record) readOlder(ctx context.Context, store *state.Store, c *spec.Cluster) error {
	applied, err := ReadApplied(ctx, store)
	if err != nil {
		return err
	}
	stored, err := store.List(ctx, keys.Prefix)
	if err != nil {
		return err
	}
	r.Up = applied.Up()
	if r.Older = applied != nil || len(stored) > 0; r.Older {
		r.UID = cmp.Or(c.Metadata.UID, r.UID)
	}
	return nil
}

// recallPlugin completes what an older slipway has recorded of a cluster that is up with the plugin that it applied.
func (r *Record) recallPlugin(ctx context.Context, store *state.Store) error {
	up := r.Up
	if up == nil || up.Plugin != "" {
		return nil
	}
	applied, err := ReadApplied(ctx, store)
	if err != nil {
		return err
	}
	if was := applied.Up(); was != nil {
		known := *up
		known.Plugin = was.Plugin
		r.Up = &known
	}
	return nil
}

// check refuses a spec that is not of the cluster that the state is of.
func (r *Record) check(c *spec.Cluster, where fmt.Stringer) error {
	name := c.Metadata.Name
	if r.Name != name {
		return fmt.Errorf("the state %s is of cluster %s, and the spec is of %s: set spec.state to another place, or metadata.name back; nothing was changed",
			where, r.Name, name)
	}
	if uid := c.Metadata.UID; uid != "" && uid != r.UID {
		if !r.Known {
			return fmt.Errorf("metadata.uid is %s, and the state %s knows of no cluster: set SLIPWAY_STATE_DIR or spec.state to where its state is, "+
				"or leave the field out of the spec of a new cluster; nothing was changed", uid, where)
		}
		return fmt.Errorf("metadata.uid is %s, and the state %s is of the cluster with the UID %s: set SLIPWAY_STATE_DIR or spec.state to where the other's "+
			"is; nothing was changed", uid, where, r.UID)
	}
	return nil
}

// CheckSpecFile keeps two specs of one name from being taken for one cluster.
func (r *Record) CheckSpecFile(c *spec.Cluster, path string) error {
	last := r.SpecFile
	if last == "" || last == path || path == "-" || c.Metadata.UID != "" {
		return nil
	}
	other, err := spec.Load(last)
	what, mend := "which is still there", ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // this one has taken its place
	case err != nil: // whose it is by now nobody can tell
		what, mend = fmt.Sprintf("which is still there and cannot be read (%v)", err), ", or mend that file"
	case other.Metadata.Name != r.Name || other.Metadata.UID != "" && other.Metadata.UID != r.UID:
		return nil // it is another cluster's by now
	}
	return fmt.Errorf("cluster %s was last applied from %s, %s, and this is %s: two specs of one name would be one cluster. If this is another cluster, give "+
		"it another metadata.name. If it is the same, write `uid: %s` into its metadata%s; nothing was changed",
		r.Name, last, what, path, r.UID, mend)
}

// ReadApplied reads what was last applied; nil if nothing was, or by a slipway that wrote it differently.
func ReadApplied(ctx context.Context, store *state.Store) (*plan.Applied, error) {
	text, err := store.Get(ctx, appliedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var applied plan.Applied
	if json.Unmarshal(text.Reveal(), &applied) != nil {
		return nil, nil // another slipway's: reasons will be less precise, and nothing else
	}
	return &applied, nil
}

// begin records that the cluster begins again without its data, before any host is told: the hosts have shown that there is
// none. What is known of the cluster of before stays until this one is up.
func (s *Session) begin(ctx context.Context) error {
	if s.beginning == "" || s.beginning == s.Record.Rebuilding {
		return nil
	}
	id := s.Record.Identity
	id.Rebuilding = s.beginning
	return s.Record.put(ctx, s.Store, id)
}

// recordUp is a converge.Record: it changes what the state knows of a cluster that is up.
func (s *Session) recordUp(ctx context.Context, change func(*plan.Up) *plan.Up) error {
	id := s.Record.Recorded(s.view.Input.Generation, change)
	if id.Equal(s.Record.Identity) && s.Record.Known {
		return nil
	}
	return s.Record.put(ctx, s.Store, id)
}

// save records which cluster it is, and from which file, before anything is made.
func (r *Record) save(ctx context.Context, store *state.Store, specPath string) error {
	id := r.Identity
	if specPath != "-" {
		id.SpecFile = specPath
	}
	if r.Known && id.SpecFile == r.SpecFile {
		return nil
	}
	return r.put(ctx, store, id)
}

func (r *Record) put(ctx context.Context, store *state.Store, id plan.Identity) error {
	text, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("record the cluster's identity: %w", err)
	}
	if err := store.Put(ctx, map[string]secret.Bytes{identityName: text}); err != nil {
		return err
	}
	r.Identity, r.Known = id, true
	return nil
}
