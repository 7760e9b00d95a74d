package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/providers/hosts"
	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// cluster is an open cluster: its spec, its state and its provider.
type cluster struct {
	spec     *spec.Cluster
	specPath string // the absolute path of the spec, or "-"
	state    state.Options
	dir      string            // its own on this computer, where providers keep their files too
	options  providers.Options // from the provider, without what the state records
	provider providers.Provider
	record   *provision.Record // the cluster's identity, once read from the state
	self     bundle.Artifact   // this program, of which the cache has a copy in selfDir
	selfDir  string
}

// open reads and checks the spec, and finds the state and the provider; it contacts no machine. It
// runs the programs that list machines (hostsFrom).
func (a *app) open(ctx context.Context, checks ...spec.Check) (*cluster, error) {
	c := a.given
	if c == nil {
		var err error
		if c, err = a.loadListed(ctx, checks...); err != nil {
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
	file, err := a.specFile()
	if err != nil {
		return nil, fmt.Errorf("find the spec: %w", err)
	}
	options := providers.Options{
		StateDir: dir, CacheDir: cache, Slipway: onHosts(self, selfDir).Mounted, ConnectTimeout: a.connectTimeout, Hosts: a.hostsOptions(),
	}
	provider, err := providers.Open(c, options)
	if err != nil {
		return nil, err
	}
	return &cluster{spec: c, specPath: file, state: where, dir: dir, options: options, provider: provider, self: self, selfDir: selfDir}, nil
}

// onHosts is slipway, of which the cache has a build in dir, as hosts see it.
func onHosts(a bundle.Artifact, dir string) stack.Artifact {
	file := filepath.Join(dir, a.Path)
	return stack.Artifact{
		Name: a.Name, Component: a.Component, Version: a.Version, SHA256: a.SHA256, Local: file, Size: a.Size,
		Mounted: path.Join(filepath.Base(dir), a.Path), Identity: bundle.Identity(file),
	}
}

// artifacts are those of a bundle, and slipway for the same architecture: this program, or another
// build of it.
func (c *cluster) artifacts(ctx context.Context, b *bundle.Bundle, show func(bundle.Event)) (stack.Set, error) {
	self, dir := c.self, c.selfDir
	if self.OS != "linux" || self.Arch != b.Arch() {
		var err error
		if self, dir, err = bundle.SelfFor(ctx, bundle.Sibling{CacheDir: c.options.CacheDir, Arch: b.Arch(), Version: version, Progress: show}); err != nil {
			return nil, err
		}
	}
	all := stack.Artifacts(b)
	all[self.Name] = onHosts(self, dir)
	return all, nil
}

// find opens a cluster and determines which of its machines exist.
func (a *app) find(ctx context.Context) (*cluster, *spec.Infrastructure, error) {
	c, err := a.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c.spec.Spec.Provider.Hosts != nil { // the state has their names and host keys
		store, err := c.recall(ctx)
		if err := errors.Join(err, closeStore(store)); err != nil {
			return nil, nil, err
		}
	}
	infra, err := c.provider.Find(ctx)
	return c, infra, err
}

// resolved returns the machines once they have said what the spec leaves out of their names; without
// such machines, those that are known.
func (c *cluster) resolved(ctx context.Context, known *spec.Infrastructure) (*spec.Infrastructure, error) {
	r, ok := c.provider.(providers.Resolver)
	if !ok {
		return known, nil
	}
	if err := r.Resolve(ctx); err != nil {
		return nil, err
	}
	return c.provider.Find(ctx)
}

// hostsOptions is how existing machines are reached.
func (a *app) hostsOptions() hosts.Options {
	o := hosts.Options{Path: a.besideSpec, Introduce: introduce(a.wayIn(a.connectTimeout)), Trusted: a.trust.Keys}
	o.SSHConfig.System = "/etc/ssh/ssh_config"
	if home, err := os.UserHomeDir(); err == nil {
		o.SSHConfig.Home, o.SSHConfig.User = home, filepath.Join(home, ".ssh", "config")
	}
	if me, err := user.Current(); err == nil {
		o.SSHConfig.LocalUser = me.Username
	}
	return o
}

// missing returns the nodes that have no machine yet.
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

func (c *cluster) names() []string { return c.spec.NodeNames() }

// list joins names for a sentence, and counts them if there are many.
func list(names []string) string {
	if len(names) > 6 {
		return fmt.Sprintf("%d machines (%s, ...)", len(names), strings.Join(names[:3], ", "))
	}
	return strings.Join(names, ", ")
}

func isTerminal(w io.Writer) bool {
	file, ok := unescaped(w).(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
