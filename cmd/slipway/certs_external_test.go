package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/testing/fixture"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

const signedElsewhere = `apiVersion: slipway.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec:
  kubernetes: {version: v1.36.3}
  provider: {local: {}}
  nodePools:
  - {name: cp, role: control-plane, replicas: 1}
  pki:
    leafValidity: 2y
    authorities:
      etcd: {certFile: etcd.crt}
`

// elsewhere is a cluster of one machine, whose etcd authority's key is in dir but not named by the spec.
func elsewhere(t *testing.T) (c *cluster, infra *spec.Infrastructure, own map[string]certs.Item, dir string) {
	t.Helper()
	dir = t.TempDir()
	fixture.OpenSSL(t, dir, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "3000", "-subj", "/CN=Etcd", "-keyout", "etcd.key", "-out", "etcd.crt")
	a := &app{file: filepath.Join(dir, "cluster.yaml")}
	if err := os.WriteFile(a.file, []byte(signedElsewhere), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := a.loadSpec(a.authorities(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	c = &cluster{spec: loaded, state: state.Options{Dir: filepath.Join(dir, "state")}}
	infra = &spec.Infrastructure{Machines: []spec.Machine{{Name: "demo-cp-1", Role: spec.ControlPlane, Address: netip.MustParseAddr("192.0.2.1")}}}
	t.Setenv("SLIPWAY_STATE_DIR", filepath.Join(dir, "none"))
	return c, infra, a.own, dir
}

// TestSignedElsewhere goes the whole way of certificates that OpenSSL signs, through files and the store.
func TestSignedElsewhere(t *testing.T) {
	c, infra, own, dir := elsewhere(t)
	out := filepath.Join(dir, "requests")
	write := func() (s *keys.Secrets) {
		t.Helper()
		err := c.withSecrets(t.Context(), infra, own, nil, func(ctx context.Context, found *keys.Secrets, policy certs.Policy) error {
			s = found
			index, err := s.Request(ctx, policy, nil)
			return errors.Join(err, writeIndex(out, index))
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	write()
	names := requestsIn(t, out)
	first := fixture.FileOf(t, out, names[0])
	if write(); !bytes.Equal(first, fixture.FileOf(t, out, names[0])) {
		t.Error("the requests are others the second time")
	}
	if found := inStore(t, c); !slices.Contains(found, "pki/etcd/server@demo-cp-1.pending.key") || slices.Contains(found, "pki/etcd/server@demo-cp-1.crt") {
		t.Errorf("the store has %v", found)
	}
	for _, name := range names {
		fixture.OpenSSL(t, out, "x509", "-req", "-in", name, "-copy_extensions", "copyall", "-days", "730", "-CA", "../etcd.crt", "-CAkey", "../etcd.key",
			"-CAcreateserial", "-out", strings.TrimSuffix(name, ".csr")+".crt")
	}
	take := func(paths ...string) (names []string, err error) {
		signed, err := readSigned(paths)
		if err != nil {
			t.Fatal(err)
		}
		err = c.withSecrets(t.Context(), infra, own, nil, func(_ context.Context, s *keys.Secrets, policy certs.Policy) (err error) {
			names, err = s.Import(signed, policy)
			return err
		})
		return names, err
	}
	before := inStore(t, c)
	stranger := filepath.Join(dir, "stranger.pem")
	fixture.OpenSSL(t, dir, "x509", "-req", "-in", filepath.Join(out, names[0]), "-days", "730", "-CA", "etcd.crt", "-CAkey", "etcd.key", "-CAcreateserial", "-out", stranger)
	if got, err := take(out, stranger); err == nil || got != nil || !strings.Contains(err.Error(), "stranger.pem: ") {
		t.Errorf("took in %v: %v", got, err)
	}
	if after := inStore(t, c); !slices.Equal(before, after) {
		t.Errorf("the store has %v, had %v", after, before)
	}
	if got, err := take(out); err != nil || len(got) != len(names) {
		t.Fatalf("took in %v: %v", got, err)
	}
	store, err := c.readStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := keys.Load(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	s, err := keys.Ensure(t.Context(), kept, nil, c.spec, infra, own)
	if err = errors.Join(err, store.Close()); err != nil || s.Unsaved() || len(s.PKI.Pending)+len(s.PKI.Obsolete) != 0 {
		t.Errorf("afterwards: %v, %+v", err, s)
	}
	for _, name := range inStore(t, c) {
		if strings.Contains(name, "pending") {
			t.Errorf("%s is left in the store", name)
		}
	}
}

// requestsIn checks a directory of requests and lists them.
func requestsIn(t *testing.T, dir string) []string {
	t.Helper()
	var index []keys.IndexEntry
	if err := json.Unmarshal(fixture.FileOf(t, dir, indexFile), &index); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var names []string
	for _, e := range index {
		names = append(names, e.File)
		if text := fixture.FileOf(t, dir, e.File); bytes.Contains(text, []byte("PRIVATE")) || !bytes.Contains(text, []byte("CERTIFICATE REQUEST")) {
			t.Errorf("%s is no request", e.File)
		}
	}
	want := keys.IndexEntry{
		Name: "etcd/server@demo-cp-1", File: "etcd_server.demo-cp-1.csr", Authority: "etcd/ca", CommonName: "demo-cp-1",
		DNSNames: []string{"demo-cp-1", "localhost"}, IPAddresses: []string{"127.0.0.1", "192.0.2.1", "::1"},
		KeyUsages: []string{"digitalSignature"}, ExtendedKeyUsages: []string{"clientAuth", "serverAuth"}, Validity: 17520, Reason: "missing",
	}
	if i := slices.Index(names, want.File); len(index) != 4 || i < 0 || !equalJSON(t, index[i], want) {
		t.Errorf("the index is %+v", index)
	}
	return names
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func inStore(t *testing.T, c *cluster) []string {
	t.Helper()
	store, err := c.readStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := store.List(t.Context(), "")
	if err = errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestPendingStops has plan and apply say what to do where certificates are missing.
func TestPendingStops(t *testing.T) {
	c, infra, own, _ := elsewhere(t)
	_, err := keys.Ensure(t.Context(), &keys.Stored{}, nil, c.spec, infra, own)
	if err == nil || !strings.Contains(err.Error(), "4 certificates have to be signed") {
		t.Errorf("got %v", err)
	}
	if all := strings.Join(hints(err, "slipway certs rotate-ca"), "\n"); !strings.Contains(all, "slipway certs csr --out DIR") || !strings.Contains(all, "slipway certs import DIR") {
		t.Errorf("the hints are %s", all)
	}
	if _, err := keys.Chosen([]keys.IndexEntry{{Name: "a"}}, []string{"b"}); err == nil || !strings.Contains(err.Error(), `certificate "b" has no external CA`) {
		t.Errorf("got %v", err)
	}
}

// TestNotes has what plan and apply say beside changes.
func TestNotes(t *testing.T) {
	change := certs.Change{Name: "ca", Reason: certs.Expiring, Detail: "expires in 9 days"}
	s := &keys.Secrets{PKI: &certs.PKI{
		Drift: []certs.Change{change}, Limited: []certs.Change{{Name: "ca", Detail: "its certificates end with it, on 2027-01-01"}},
		Pending: []certs.Pending{{Change: certs.Change{Name: "admin", Detail: "expires in 9 days"}, Usable: true}},
	}}
	want := []string{
		"a CA was kept unchanged: ca: expires in 9 days",
		"warning: CA ca expires before leafValidity: its certificates end with it, on 2027-01-01",
		"warning: certificate admin expires in 9 days, and has to be signed by an external CA: `slipway certs csr`",
	}
	if got := s.Notes(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
