package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/testing/fixture"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// TestKeyFileIsGone: whoever has the state needs no file with the key of an authority. Where the state has no such key, the
// missing file is a mistake of the spec, with its place.
func TestKeyFileIsGone(t *testing.T) {
	_, infra, _, dir := elsewhere(t)
	a := &app{file: filepath.Join(dir, "cluster.yaml")}
	write := func(authority string) {
		t.Helper()
		text := strings.Replace(signedElsewhere, "{certFile: etcd.crt}", authority, 1)
		if err := os.WriteFile(a.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() (*spec.Cluster, error) { return a.loadSpec(a.authorities(t.Context())) }
	refused := func(name string) {
		t.Helper()
		const want = "cluster.yaml:12:43: spec.pki.authorities.etcd.keyFile: cannot be read: open"
		var mistakes spec.Errors
		if _, err := load(); !errors.As(err, &mistakes) || len(mistakes) != 1 || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	write("{certFile: etcd.crt, keyFile: etcd.key}")
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	own, away := a.own, filepath.Join(dir, "away.key")
	if err := os.Rename(filepath.Join(dir, "etcd.key"), away); err != nil {
		t.Fatal(err)
	}
	refused("without a state")

	s, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, c, infra, own)
	if err != nil {
		t.Fatal(err)
	}
	where, err := state.DefaultDir("demo")
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(t.Context(), state.Options{Dir: where})
	if err = errors.Join(err, s.Save(t.Context(), store), store.Close()); err != nil {
		t.Fatal(err)
	}
	const remark = "spec.pki.authorities.etcd.keyFile: open "
	if _, err := load(); err != nil || !bytes.Equal(bytes.TrimSpace(a.own[certs.EtcdCA].Key), bytes.TrimSpace(own[certs.EtcdCA].Key)) ||
		len(a.remarks) != 1 || !strings.HasPrefix(a.remarks[0], remark) || !strings.HasSuffix(a.remarks[0], "; the state has the key") {
		t.Errorf("with a state: %v; remarks are %q", err, a.remarks)
	}
	fixture.OpenSSL(t, dir, "req", "-x509", "-key", "away.key", "-days", "100", "-subj", "/CN=Another", "-out", "etcd.crt")
	refused("with another authority's state")
}
