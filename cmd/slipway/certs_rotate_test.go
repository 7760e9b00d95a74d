package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/testing/fixture"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
)

// TestRotationSignedElsewhere has a rotation wait for the signatures of an authority whose key is elsewhere, and go on
// with them.
func TestRotationSignedElsewhere(t *testing.T) {
	c, infra, own, dir := elsewhere(t)
	store, err := c.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, c.spec, infra, nil) // slipway's own authority is in use
	if err != nil {
		t.Fatal(err)
	}
	names := []string{certs.EtcdCA}
	items, err := rotate.Cluster{Spec: c.spec, Found: infra, Own: own}.NewItems(&keys.Stored{Material: first.Made}, names)
	if err != nil {
		t.Fatal(err)
	}
	rotation := certs.Begin(names, time.Now())
	err = errors.Join(first.Save(t.Context(), store), keys.SaveRotation(t.Context(), store, rotation, items))
	secretsNow := func() error {
		s, err := keys.Load(t.Context(), store)
		if err == nil {
			_, err = keys.Ensure(t.Context(), s, nil, c.spec, infra, own)
		}
		return err
	}
	if err := errors.Join(err, secretsNow()); err != nil {
		t.Fatalf("in stage trust: %v", err)
	}
	rotation = rotation.Next(time.Now())
	if err := keys.SaveRotation(t.Context(), store, rotation, nil); err != nil {
		t.Fatal(err)
	}
	run := rotateRun{wish: rotate.Wish{Command: rotate.CommandOf(rotation)}}
	err = run.waiting(rotation.Stage, secretsNow())
	if err == nil || !strings.HasPrefix(err.Error(), "stage issue waits for signatures; `slipway certs rotate-ca` continues it then (or returns without them, with --rollback): 4 certificates have") {
		t.Fatalf("in stage issue: %v", err)
	}
	if all := strings.Join(hints(err, "slipway certs rotate-ca"), "\n"); !strings.Contains(all, "slipway certs csr --out DIR") || strings.Contains(all, "Nothing was installed") {
		t.Errorf("the hints are %s", all)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	signAll(t, c, infra, own, dir)
	if store, err = c.openStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(secretsNow(), store.Close()); err != nil {
		t.Errorf("with the signatures: %v", err)
	}
}

// signAll has OpenSSL sign with etcd's key what waits for it, and takes that in.
func signAll(t *testing.T, c *cluster, infra *spec.Infrastructure, own map[string]certs.Item, dir string) {
	t.Helper()
	out := filepath.Join(dir, "requests")
	var index []keys.IndexEntry
	err := c.withSecrets(t.Context(), infra, own, nil, func(ctx context.Context, s *keys.Secrets, policy certs.Policy) (err error) {
		index, err = s.Request(ctx, policy, nil)
		return errors.Join(err, writeIndex(out, index))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range index {
		fixture.OpenSSL(t, out, "x509", "-req", "-in", e.File, "-copy_extensions", "copyall", "-days", "730", "-CA", "../etcd.crt", "-CAkey", "../etcd.key",
			"-CAcreateserial", "-out", strings.TrimSuffix(e.File, ".csr")+".crt")
	}
	signed, err := readSigned([]string{out})
	if err != nil {
		t.Fatal(err)
	}
	err = c.withSecrets(t.Context(), infra, own, nil, func(_ context.Context, s *keys.Secrets, policy certs.Policy) error {
		_, err := s.Import(signed, policy)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
