package simulate

import (
	"context"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/state"
)

// begin begins a rotation, as its command does.
func begin(c *Cluster, memory *state.Memory, v Variant, names []string) (*certs.Rotation, error) {
	r := certs.Begin(names, time.Now())
	infra := machines{&Run{variant: v}}.infrastructure()
	return r, edit(memory, func(ctx context.Context, store *state.Store) error {
		stored, err := keys.Load(ctx, store)
		if err != nil {
			return err
		}
		items, err := rotate.Cluster{Spec: v.Input.Cluster, Found: infra}.NewItems(stored, names)
		if err != nil {
			return err
		}
		c.secrets = append(c.secrets, pieces(items)...)
		return keys.SaveRotation(ctx, store, r, items)
	})
}

// underWay is the rotation that a state records, nil for none.
func underWay(memory *state.Memory) (r *certs.Rotation, err error) {
	err = edit(memory, func(ctx context.Context, store *state.Store) error {
		stored, err := keys.Load(ctx, store)
		if err == nil {
			r = stored.Rotation
		}
		return err
	})
	return r, err
}

// rotatable are what a rotation may replace, one after another or all at once.
var rotatable = [][]string{
	{certs.KubernetesCA},
	{certs.EtcdCA},
	{certs.FrontProxyCA},
	{certs.ServiceAccounts},
	{certs.EncryptionKey},
	{certs.KubernetesCA, certs.EtcdCA, certs.FrontProxyCA, certs.ServiceAccounts},
}

// rotate begins a rotation of a cluster that has been up, where none is under way, or turns it round.
func (s *simulation) rotate() {
	s.c.mu.Lock()
	up := s.c.up
	s.c.mu.Unlock()
	var err error
	switch {
	case s.rotation == nil && up:
		names := rotatable[s.rand.IntN(len(rotatable))]
		s.rotation, err = begin(s.c, s.memory, s.shape.Variants[s.variant], names)
		s.rotated = true
	case s.rotation != nil && s.rand.IntN(4) == 0:
		back, cannot := s.rotation.Rollback()
		if cannot != nil {
			return // something was dropped
		}
		s.rotation = back
		err = edit(s.memory, func(ctx context.Context, store *state.Store) error { return keys.SaveRotation(ctx, store, back, nil) })
	default:
		return
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err != nil {
		s.c.violate("rotation: it cannot be recorded: %v", err)
		return
	}
	s.c.note("rotation: the %v", s.rotation)
}

// recall finds out how far the rotation under way has come, after a run.
func (s *simulation) recall() {
	if s.rotation == nil {
		return
	}
	was, err := s.rotation, error(nil)
	s.rotation, err = underWay(s.memory)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	switch {
	case err != nil:
		s.c.violate("rotation: what the state has cannot be read: %v", err)
	case s.rotation == nil:
		s.c.note("rotation: it has ended")
	case s.rotation.Stage != was.Stage:
		s.c.note("rotation: the %v", s.rotation)
	}
}
