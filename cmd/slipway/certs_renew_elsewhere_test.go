package main

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/testing/fixture"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
)

// TestRenewElsewhere: what cannot be renewed here is an error where it was named, with what to do, and said where everything
// was; its request is written by its name, and what comes back takes its place.
func TestRenewElsewhere(t *testing.T) {
	const leaf = "etcd/server@demo-cp-1"
	c, infra, own, dir := elsewhere(t)
	signAll(t, c, infra, own, dir)
	kept := func() *keys.Stored {
		t.Helper()
		store, err := c.readStore(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := keys.Load(t.Context(), store)
		if err = errors.Join(err, store.Close()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	now := func(renew ...string) (*keys.Secrets, error) {
		return keys.Ensure(t.Context(), kept(), renew, c.spec, infra, own)
	}
	_, err := now("apiserver", "etcd/server")
	if all := strings.Join(hints(err, "slipway certs renew"), "\n"); err == nil || !strings.Contains(err.Error(), leaf) || len(hints(err, "")) != 1 ||
		!strings.Contains(all, "slipway certs csr --out DIR NAME") || strings.Contains(all, "run this again") {
		t.Errorf("by name: %v, hints %s", err, all)
	}
	if _, err := now("etcd/*"); !errors.As(err, new(*certs.PendingError)) {
		t.Errorf("all of an authority's: %v", err)
	}
	s, err := now(keys.EveryLeaf...)
	if err != nil || len(s.Issued) < 5 || len(s.PKI.Pending) != 4 || !strings.Contains(strings.Join(s.Notes(), "\n"), "certificate "+leaf+" is renewed only after an external CA has signed it") {
		t.Errorf("everything: %v, issued %v, notes %q", err, s.Issued, s.Notes())
	}
	if s, err = now(); err != nil || len(s.PKI.Pending) > 0 {
		t.Fatalf("nothing: %v", err)
	}
	before := s.PKI.Material[leaf]

	out := filepath.Join(dir, "renewal")
	ask := func(pattern string) (index []keys.IndexEntry, err error) {
		err = c.withSecrets(t.Context(), infra, own, []string{pattern}, func(ctx context.Context, s *keys.Secrets, policy certs.Policy) (err error) {
			index, err = s.Request(ctx, policy, []string{pattern})
			return err
		})
		return index, err
	}
	for pattern, want := range map[string]string{
		"admin": `certificate "admin" has no external CA: ` + "`slipway certs renew admin`", "zzz": `there is no certificate "zzz"`, "etcd/ca": "etcd/ca is a CA or a key",
	} {
		if _, err := ask(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	if s, err := now(); err != nil || s.Unsaved() {
		t.Errorf("something was stored: %v, %v", err, s.Issued)
	}
	index, err := ask("etcd/server")
	if err != nil || len(index) != 1 || index[0].Name != leaf || index[0].Reason != string(certs.Requested) {
		t.Fatalf("asked for %v: %v", index, err)
	}
	if err := writeIndex(out, index); err != nil {
		t.Fatal(err)
	}
	fixture.OpenSSL(t, out, "x509", "-req", "-in", index[0].File, "-copy_extensions", "copyall", "-days", "730", "-CA", "../etcd.crt", "-CAkey", "../etcd.key", "-CAcreateserial", "-out", "new.crt")
	if s, err := now(); err != nil || !bytes.Equal(s.PKI.Material[leaf].Key, before.Key) || len(s.PKI.Pending) != 1 {
		t.Errorf("while it is signed: %v", err)
	}
	back := kept() // as if the request had been meant for an authority that is left again
	back.Rotation = &certs.Rotation{Names: []string{certs.EtcdCA}, Stage: certs.Return, Back: true}
	if s, err := keys.Ensure(t.Context(), back, nil, c.spec, infra, own); err != nil || len(s.PKI.Pending) > 0 {
		t.Errorf("in a rollback: %v", err)
	}
	signed, err := readSigned([]string{out})
	if err != nil {
		t.Fatal(err)
	}
	err = c.withSecrets(t.Context(), infra, own, nil, func(_ context.Context, s *keys.Secrets, policy certs.Policy) error {
		names, err := s.Import(signed, policy)
		if !slices.Equal(names, []string{leaf}) {
			t.Errorf("took in %v", names)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := now(); err != nil || bytes.Equal(s.PKI.Material[leaf].Key, before.Key) || len(s.PKI.Pending)+len(s.PKI.Obsolete) > 0 || s.Unsaved() {
		t.Errorf("in the end: %v", err)
	}
}
