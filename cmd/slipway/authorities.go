package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// authorities is a check of the spec: it reads the user's own CAs into a.own, and reports their
// defects as errors of the spec. Commands that may issue certificates open a cluster with it.
func (a *app) authorities(ctx context.Context) spec.Check {
	return func(c *spec.Cluster) []spec.Mistake { return a.readAuthorities(ctx, c) }
}

func (a *app) readAuthorities(ctx context.Context, c *spec.Cluster) []spec.Mistake {
	own := c.Spec.PKI.Authorities
	var mistakes []spec.Mistake
	a.own, a.remarks = map[string]certs.Item{}, nil
	for _, row := range []struct {
		name  string
		files *spec.Authority
	}{
		{certs.KubernetesCA, own.Kubernetes},
		{certs.EtcdCA, own.Etcd},
		{certs.FrontProxyCA, own.FrontProxy},
	} {
		if row.files == nil || row.files.CertFile == "" { // already reported
			continue
		}
		item, bad := a.readAuthority(ctx, c, row.name, *row.files)
		mistakes = append(mistakes, bad...)
		if len(bad) == 0 {
			a.own[row.name] = item
		}
	}
	if len(a.own) == 0 {
		return mistakes
	}
	for _, f := range certs.CheckOwn(a.own, expectedRequests(c), time.Now()) {
		field := keys.AuthorityFields[f.Authority] + ".certFile"
		if f.InKey {
			field = keys.AuthorityFields[f.Authority] + ".keyFile"
		}
		mistakes = append(mistakes, spec.Mistake{Field: field, Message: f.Message, Remedy: f.Remedy})
	}
	return mistakes
}

// expectedRequests are those of a cluster whose machines need not exist: their addresses are not
// known yet.
func expectedRequests(c *spec.Cluster) []certs.Request {
	var machines []spec.Machine
	for _, n := range c.Nodes() {
		machines = append(machines, spec.Machine{Name: n.Name, Role: n.Role, Address: netip.AddrFrom4([4]byte{127, 0, 0, 1})})
	}
	return certs.Table(stack.CertInputs(c, machines, nil))
}

// readAuthority reads the files of one CA. A key whose file is gone may be in the state.
func (a *app) readAuthority(ctx context.Context, c *spec.Cluster, name string, files spec.Authority) (certs.Item, []spec.Mistake) {
	var item certs.Item
	var mistakes []spec.Mistake
	mistake := func(field string, err error) {
		mistakes = append(mistakes, spec.Mistake{
			Field: keys.AuthorityFields[name] + field, Message: fmt.Sprintf("cannot be read: %v", err),
			Remedy: "name a file in PEM that you may read; paths are relative to the spec file",
		})
	}
	var err error
	if item.Cert, err = a.readBesideSpec(files.CertFile); err != nil {
		mistake(".certFile", err)
	}
	if files.KeyFile == "" {
		return item, mistakes
	}
	key, err := a.readBesideSpec(files.KeyFile)
	if item.Key = key; errors.Is(err, fs.ErrNotExist) {
		item.Key, err = a.storedKey(ctx, c, name, item, err)
	}
	if err != nil {
		mistake(".keyFile", err)
	}
	return item, mistakes
}

// storedKey returns a CA's key from the state if its file does not exist (gone); if the state does
// not have it, the error stays gone.
func (a *app) storedKey(ctx context.Context, c *spec.Cluster, name string, authority certs.Item, gone error) (secret.Bytes, error) {
	where, dir, err := a.stateOf(c)
	if err != nil {
		return nil, gone
	}
	s, err := (&cluster{spec: c, state: where, dir: dir}).readSecrets(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone
	}
	if err != nil {
		return nil, fmt.Errorf("%w, and it is unknown whether the state has the key: %w", gone, err)
	}
	key := s.Material.KeyOf(name, authority)
	if len(key) == 0 {
		return nil, gone
	}
	a.remarks = append(a.remarks, fmt.Sprintf("%s.keyFile: %v; the state has the key", keys.AuthorityFields[name], gone))
	return key, nil
}

func (a *app) readBesideSpec(file string) ([]byte, error) {
	path, err := a.besideSpec(file)
	if err != nil {
		return nil, err
	}
	return readPEM(path)
}

// maxPEM bounds a file of certificates or of a key: a bundle of a thousand certificates is shorter.
const maxPEM = 4 << 20

// readPEM reads a file that must not be empty.
func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // G304: the user names it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxPEM:
		return nil, fmt.Errorf("%s has more than %d MiB", path, maxPEM>>20)
	case len(text) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	}
	return text, nil
}
