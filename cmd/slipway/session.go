package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

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

// open reads the spec, has it checked, and finds what belongs to it; nothing is asked of any machine yet.
func (a *app) open(checks ...spec.Check) (*cluster, error) {
	c := a.given
	if c == nil {
		var err error
		if c, err = a.loadSpec(checks...); err != nil {
			return nil, err
		}
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

	before *certs.PKI     // as it was in the store
	issued []certs.Change // what is not in the store yet
	asked  bool           // nor are signing requests, or what came back for them
	newKey bool           // nor is the encryption key
}

// Where things are in the state store.
const (
	pkiPrefix         = "pki/"
	encryptionKeyName = "encryption-key"
)

// certPolicy is what the spec says of certificates, with the authorities that it names.
func certPolicy(p spec.PKI, own map[string]certs.Item) certs.Policy {
	return certs.Policy{
		CAValidity: p.CADuration(), LeafValidity: p.LeafDuration(), RenewalWindow: p.RenewalDuration(),
		KeyAlgorithm: certs.KeyAlgorithm(p.KeyAlgorithm), CAKeyAlgorithm: certs.KeyAlgorithm(p.CAKeyAlgorithm),
		Subject: certs.Subject(p.Subject), Own: own,
	}
}

// findSecrets loads what the store (which may be nil) has, and makes in memory what is missing; own are the authorities
// that the spec names. Where certificates have to be signed elsewhere first, the error is a *certs.PendingError, and the
// secrets are given all the same.
func findSecrets(
	ctx context.Context, store *state.Store, c *spec.Cluster, infra *spec.Infrastructure, own map[string]certs.Item,
) (*secrets, error) {
	flat, key := map[string]secret.Bytes{}, secret.Bytes(nil)
	if store != nil {
		var err error
		if flat, err = store.GetAll(ctx, pkiPrefix); err != nil {
			return nil, err
		}
		if key, err = store.Get(ctx, encryptionKeyName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	have, err := certs.Unflatten(flat)
	if err != nil {
		return nil, err
	}
	requests := certs.Table(provision.CertInputs(c, infra.Machines, infra.ExtraSANs))
	pki, issued, err := certs.Ensure(ctx, have, requests, certPolicy(c.Spec.PKI, own), time.Now())
	if err != nil && !errors.As(err, new(*certs.PendingError)) {
		return nil, fmt.Errorf("certificates of %s: %w", c.Metadata.Name, err)
	}
	s := &secrets{PKI: pki, EncryptionKey: key, before: &certs.PKI{Requests: requests, Material: have}, issued: issued}
	if key == nil && len(have) > 0 { // both are stored in one write
		return nil, fmt.Errorf("the state of %s has certificates and no key for Secrets at rest (%s): with another key the cluster could not read "+
			"its Secrets any more; restore it from a backup; nothing was changed", c.Metadata.Name, encryptionKeyName)
	}
	if key == nil {
		s.EncryptionKey, s.newKey = certs.NewEncryptionKey(), true
	}
	return s, err
}

// notes are what somebody should know of certificates that are as good as they can be now.
func (s *secrets) notes() []string {
	var notes []string
	for _, d := range s.PKI.Drift {
		notes = append(notes, "a certificate authority was kept as it is: "+d.String())
	}
	for _, l := range s.PKI.Limited {
		notes = append(notes, "warning: authority "+l.Name+" ends before leafValidity: "+l.Detail)
	}
	for _, p := range s.PKI.Pending {
		notes = append(notes, "warning: certificate "+p.Name+" "+p.Detail+", and has to be signed elsewhere: `slipway certs csr`")
	}
	return notes
}

// unsaved says whether anything was made that the store does not have.
func (s *secrets) unsaved() bool { return len(s.issued) > 0 || s.newKey }

// save stores what was made, before anybody uses it, and forgets what belongs to nodes that have left.
func (s *secrets) save(ctx context.Context, store *state.Store) error {
	put := map[string]secret.Bytes{}
	if len(s.issued) > 0 || s.asked {
		for name, content := range s.PKI.Material.Flatten() {
			put[pkiPrefix+name] = content
		}
	}
	if s.newKey {
		put[encryptionKeyName] = s.EncryptionKey
	}
	if len(put) > 0 {
		if err := store.Put(ctx, put); err != nil {
			return err
		}
	}
	s.issued, s.asked, s.newKey = nil, false, false
	var gone []string
	for _, name := range s.PKI.Obsolete {
		gone = append(gone, pkiPrefix+name+".crt", pkiPrefix+name+".key")
	}
	if len(gone) == 0 {
		return nil
	}
	return store.Remove(ctx, gone...)
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

// missing are the nodes that have no machine yet.
func (c *cluster) missing(infra *spec.Infrastructure) []string {
	have := map[string]bool{}
	for _, m := range infra.Machines {
		have[m.Name] = true
	}
	var names []string
	for _, n := range c.spec.Nodes() {
		if !have[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}

func (c *cluster) names() []string {
	var names []string
	for _, n := range c.spec.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// endpoint is where clients outside reach the API: the spec's, or what the provider gives.
func endpoint(c *spec.Cluster, infra *spec.Infrastructure) string {
	if e := c.Spec.ControlPlane.Endpoint; e != "" {
		return e
	}
	return infra.Endpoint
}

// list joins names for a sentence, in short when they are many.
func list(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%d machines (%s, ...)", len(names), strings.Join(names[:3], ", "))
	}
	return strings.Join(names, ", ")
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
