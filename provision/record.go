package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// The state's names for the cluster's identity, and for what it knows of existing machines.
const (
	identityName   = "cluster.json"
	knownHostsName = "hosts.json"
)

// Record is what the state records of its cluster.
type Record struct {
	plan.Identity
	// Known reports whether the state has it; otherwise it was created now, or derived from an
	// older state.
	Known bool
	// Hosts is what is known of existing machines (Recorder).
	Hosts spec.KnownHosts
}

// ReadRecord determines which cluster the state belongs to. If the state (which may be nil) has
// none, a new identity is created and kept in memory. where names the state in errors.
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
			err = errors.Join(r.recallPlugin(ctx, store), r.readHosts(ctx, store))
		}
		if err != nil {
			return nil, err
		}
	}
	return r, r.check(c, where)
}

// readOlder reads the state of an older slipway: keys, and what was applied, but no UID. If the
// cluster has got one since, because the state is an earlier copy, only the spec can name it;
// machines with the state's keys have to confirm it.
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

// recallPlugin adds the applied network plugin to an older slipway's record of a cluster that is
// up.
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

// readHosts reads what is known of existing machines.
func (r *Record) readHosts(ctx context.Context, store *state.Store) error {
	text, err := store.Get(ctx, knownHostsName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text.Reveal(), &r.Hosts)
	}
	if err != nil {
		return fmt.Errorf("state %s: what it knows of the hosts (%s) is damaged: %w; restore the state from a backup", store, knownHostsName, err)
	}
	return nil
}

// recordHosts records existing machines: their names and addresses, and the host keys that were
// trusted. From then on they stay what they are.
func (s *Session) recordHosts(ctx context.Context) error {
	r, ok := s.Machines.(Recorder)
	if !ok {
		return nil
	}
	hosts := r.Record()
	if maps.Equal(hosts.Hosts, s.Record.Hosts.Hosts) && maps.Equal(hosts.HostKeys, s.Record.Hosts.HostKeys) {
		return nil
	}
	return s.Record.putHosts(ctx, s.Store, hosts)
}

// ForgetHostKey removes the key of a machine that was trusted on first use, by its SSH address.
func (r *Record) ForgetHostKey(ctx context.Context, store *state.Store, address string) error {
	hosts := spec.KnownHosts{Hosts: r.Hosts.Hosts, HostKeys: maps.Clone(r.Hosts.HostKeys)}
	delete(hosts.HostKeys, address)
	return r.putHosts(ctx, store, hosts)
}

func (r *Record) putHosts(ctx context.Context, store *state.Store, hosts spec.KnownHosts) error {
	text, err := json.Marshal(hosts)
	if err != nil {
		return fmt.Errorf("record the hosts: %w", err)
	}
	if err := store.Put(ctx, map[string]secret.Bytes{knownHostsName: text}); err != nil {
		return err
	}
	r.Hosts = hosts
	return nil
}

// check refuses a spec whose cluster is not that of the state.
func (r *Record) check(c *spec.Cluster, where fmt.Stringer) error {
	name := c.Metadata.Name
	if r.Name != name {
		return fmt.Errorf("the state %s is of cluster %s, and the spec is of %s: set spec.state to another place, or restore metadata.name; nothing was changed",
			where, r.Name, name)
	}
	if uid := c.Metadata.UID; uid != "" && uid != r.UID {
		if !r.Known {
			return fmt.Errorf("metadata.uid is %s, and the state %s has no cluster: set SLIPWAY_STATE_DIR or spec.state to its state, "+
				"or omit the field for a new cluster; nothing was changed", uid, where)
		}
		return fmt.Errorf("metadata.uid is %s, and the state %s is of the cluster with the UID %s: set SLIPWAY_STATE_DIR or spec.state to the other "+
			"state; nothing was changed", uid, where, r.UID)
	}
	return nil
}

// CheckSpecFile prevents two specs with the same name from being taken for one cluster.
func (r *Record) CheckSpecFile(c *spec.Cluster, path string) error {
	last := r.SpecFile
	if last == "" || last == path || path == "-" || c.Metadata.UID != "" {
		return nil
	}
	other, err := spec.Load(last)
	what, mend := "which still exists", ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // this one has taken its place
	case err != nil: // it is unknown whose it is now
		what, mend = fmt.Sprintf("which still exists and cannot be read (%v)", err), ", or repair that file"
	case other.Metadata.Name != r.Name || other.Metadata.UID != "" && other.Metadata.UID != r.UID:
		return nil // it is another cluster's now
	}
	return fmt.Errorf("cluster %s was last applied from %s, %s, and this is %s: two specs with one name would be one cluster. If this is another cluster, give "+
		"it another metadata.name. If it is the same, write `uid: %s` into its metadata%s; nothing was changed",
		r.Name, last, what, path, r.UID, mend)
}

// ReadApplied reads what was last applied; nil if nothing was, or if another version's format
// cannot be read.
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
		return nil, nil // another version's: only the reasons will be less precise
	}
	return &applied, nil
}

// begin records that the cluster starts again without its data, before any host is changed: the
// hosts have shown that there is no data. The record of the previous generation stays until this
// one is up.
func (s *Session) begin(ctx context.Context) error {
	if s.beginning == "" || s.beginning == s.Record.Rebuilding {
		return nil
	}
	id := s.Record.Identity
	id.Rebuilding = s.beginning
	return s.Record.put(ctx, s.Store, id)
}

// recordUp is a converge.Record: it changes the record of a cluster that is up.
func (s *Session) recordUp(ctx context.Context, change func(*plan.Up) *plan.Up) error {
	id := s.Record.Recorded(s.view.Input.Generation, change)
	if id.Equal(s.Record.Identity) && s.Record.Known {
		return nil
	}
	return s.Record.put(ctx, s.Store, id)
}

// save records the cluster's identity, and the file of its spec, before anything is created.
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
