package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

// cluster is one cluster at hand: its spec, where its state is and where its machines come from.
type cluster struct {
	spec     *spec.Cluster
	state    state.Options
	dir      string // its own on this computer, where providers keep their files too
	provider providers.Provider
	slipway  provision.Artifact // this very program, as hosts see it
}

// open reads the spec and finds what belongs to it; nothing is asked of any machine yet.
func (a *app) open() (*cluster, error) {
	c, err := a.loadSpec()
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	where, dir, err := a.stateOf(c)
	if err != nil {
		return nil, err
	}
	self, selfDir, err := bundle.Self(cache)
	if err != nil {
		return nil, err
	}
	slipway := provision.Artifact{
		Name: self.Name, Component: self.Component, Version: self.Version, SHA256: self.SHA256,
		Mounted: path.Join(filepath.Base(selfDir), self.Path),
	}
	provider, err := providers.Open(c, providers.Options{
		StateDir: dir, CacheDir: cache, Slipway: slipway.Mounted, ConnectTimeout: a.connectTimeout,
	})
	if err != nil {
		return nil, err
	}
	return &cluster{spec: c, state: where, dir: dir, provider: provider, slipway: slipway}, nil
}

// find opens a cluster and looks which of its machines there are.
func (a *app) find(ctx context.Context) (*cluster, *spec.Infrastructure, error) {
	c, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	infra, err := c.provider.Find(ctx)
	return c, infra, err
}

// secrets are what the state store keeps of a cluster.
type secrets struct {
	PKI           *certs.PKI
	EncryptionKey secret.Bytes
}

// Where things are in the state store.
const (
	pkiPrefix         = "pki/"
	encryptionKeyName = "encryption-key"
)

// ensureSecrets loads what the store has and makes what is missing. Everything is stored before anybody uses it.
func ensureSecrets(ctx context.Context, store *state.Store, c *spec.Cluster, infra *spec.Infrastructure) (*secrets, error) {
	flat, err := store.GetAll(ctx, pkiPrefix)
	if err != nil {
		return nil, err
	}
	have, err := certs.Unflatten(flat)
	if err != nil {
		return nil, err
	}
	requests := certs.Table(provision.CertInputs(c, infra.Machines, infra.ExtraSANs))
	policy := certs.Policy{
		CAValidity: c.Spec.PKI.CADuration(), LeafValidity: c.Spec.PKI.LeafDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(c.Spec.PKI.KeyAlgorithm),
	}
	pki, changes, err := certs.Ensure(ctx, have, requests, policy, time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificates of %s: %w", c.Metadata.Name, err)
	}
	put := map[string]secret.Bytes{}
	if len(changes) > 0 {
		for name, content := range pki.Material.Flatten() {
			put[pkiPrefix+name] = content
		}
	}
	key, err := store.Get(ctx, encryptionKeyName)
	if errors.Is(err, fs.ErrNotExist) {
		key = certs.NewEncryptionKey()
		put[encryptionKeyName] = key
	} else if err != nil {
		return nil, err
	}
	if len(put) > 0 {
		if err := store.Put(ctx, put); err != nil {
			return nil, err
		}
	}
	if len(pki.Obsolete) > 0 { // nodes that have left
		var gone []string
		for _, name := range pki.Obsolete {
			gone = append(gone, pkiPrefix+name+".crt", pkiPrefix+name+".key")
		}
		if err := store.Remove(ctx, gone...); err != nil {
			return nil, err
		}
	}
	return &secrets{PKI: pki, EncryptionKey: key}, nil
}

func dial(ctx context.Context, m spec.Machine, timeout time.Duration) (*host.SSH, error) {
	return host.Dial(ctx, host.Config{
		Name: m.Name, Address: m.SSHAddress, User: m.SSHUser, Key: m.SSHKey, HostKeys: m.HostKeys, ConnectTimeout: timeout,
	})
}

// dialAll connects to every machine, side by side. All failures are reported, not just the first; what was opened is
// closed by the returned function in any case.
func dialAll(ctx context.Context, machines []spec.Machine, timeout time.Duration) (map[string]host.Host, func(), error) {
	conns, errs := make([]*host.SSH, len(machines)), make([]error, len(machines))
	var group errgroup.Group
	for i, m := range machines {
		group.Go(func() error {
			conns[i], errs[i] = dial(ctx, m, timeout)
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by machine
	hosts := map[string]host.Host{}
	for i, m := range machines {
		if errs[i] == nil {
			hosts[m.Name] = conns[i]
		}
	}
	closeAll := func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}
	return hosts, closeAll, errors.Join(errs...)
}
