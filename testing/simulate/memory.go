package simulate

import (
	"context"
	"encoding/json"
	"fmt"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/state"
)

// identityName is where the state has which cluster it is of.
const identityName = "cluster.json"

// NewMemory is the state of a cluster that has not been up. Its keys are those of the shape: to make them takes long.
func NewMemory(shape *Shape) (*state.Memory, error) {
	m := &state.Memory{}
	in := shape.Variants[0].Input
	text, err := json.Marshal(plan.Identity{UID: in.UID, Name: in.Cluster.Metadata.Name})
	if err != nil {
		return nil, err
	}
	items := keys.Flat(in.PKI.Material)
	items[identityName] = text
	key := in.EncryptionKeys[0]
	items[certs.EncryptionKey] = certs.FormatEncryptionKey(certs.Item{Cert: []byte(key.Name), Key: key.Key})
	return m, edit(m, func(ctx context.Context, store *state.Store) error { return store.Put(ctx, items) })
}

// edit is a process that has the lock for a moment.
func edit(m *state.Memory, do func(ctx context.Context, store *state.Store) error) error {
	ctx := context.Background()
	store, err := state.Open(ctx, state.Options{Memory: m})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // it is in memory
	return do(ctx, store)
}

// identity is which cluster a state is of, and what it knows of it.
func identity(ctx context.Context, store *state.Store) (id plan.Identity, err error) {
	var text secret.Bytes
	if text, err = store.Get(ctx, identityName); err == nil {
		id, err = plan.ReadIdentity(text.Reveal())
	}
	if err != nil {
		err = fmt.Errorf("the state does not say which cluster it is of: %w", err)
	}
	return id, err
}
