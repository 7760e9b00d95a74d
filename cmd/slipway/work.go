package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// work is one run on a cluster: its session, and its user interface.
type work struct {
	*app
	*cluster
	provision.Session
	progress *progress
	// consent means that the next plan was already agreed to.
	consent bool
	// outlook says of a plan how long it takes, before people agree to it; may be nil.
	outlook func(*plan.Plan) string
}

// session fills in the session. The cluster has to be open, and its identity known; store may be
// nil.
func (w *work) session(store *state.Store) {
	limitMemory(len(w.spec.Nodes()))
	s := &w.Session
	s.Cluster, s.File, s.SpecPath, s.Version = w.spec, w.file, w.specPath, version
	s.Own, s.Remarks, s.Record, s.Store, s.Machines = w.own, w.remarks, w.record, store, w.provider
	s.Bundle, s.HasBundle, s.Arch, s.UI = w.ensureBundle, w.hasBundle, runtime.GOARCH, ui{w}
	s.Dial, s.Inspect = w.wayIn(w.connectTimeout).DialAll, preflight.Run
	if cache, err := cacheDir(); err == nil {
		s.Packed = packedDir(cache)
	}
}

// ui shows the run of a session.
type ui struct{ w *work }

func (u ui) Phase(name string)      { u.w.progress.Phase(name) }
func (u ui) Host(name, what string) { u.w.progress.Host(name, what) }
func (u ui) Note(text string)       { u.w.progress.Note(text) }
func (u ui) Step(e dag.Event)       { u.w.progress.Event(e) }

// Begin tells the journal and the live view what is carried out now.
func (u ui) Begin(p *plan.Plan) error {
	u.w.progress.Steps(len(p.Steps))
	return recordPlan(u.w.progress.recorder, p)
}

// Confirm shows the changes on existing machines, and asks.
func (u ui) Confirm(ctx context.Context, p *plan.Plan) error {
	if u.w.outlook != nil {
		u.w.progress.Note(u.w.outlook(p))
	}
	if u.w.yes || u.w.consent {
		return nil
	}
	return u.w.progress.Suspend(func() error {
		v := planView{out: u.w.stderr, plan: p, all: u.w.verbose, steps: u.w.verbose, file: u.w.file}
		v.printf("\n")
		if v.print(); v.err != nil {
			return fmt.Errorf("print the plan: %w", v.err)
		}
		return u.w.confirm(ctx, "Apply this?")
	})
}

// addParallelism adds the flags that control how steps run.
func (w *work) addParallelism(cmd *cobra.Command) {
	w.Parallelism = 256
	cmd.Flags().Var((*atLeastOne)(&w.Parallelism), "parallelism", "how many steps may run at a time")
	w.addConnectTimeout(cmd, connectTimeout)
}

// atLeastOne is a flag's number from 1.
type atLeastOne int

func (n *atLeastOne) String() string { return strconv.Itoa(int(*n)) }

func (n *atLeastOne) Type() string { return "int" }

func (n *atLeastOne) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 {
		return errors.New("write a number from 1")
	}
	*n = atLeastOne(value)
	return nil
}

// addOnly adds the flag --only.
func (w *work) addOnly(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&w.Only, "only", nil, "change only these nodes; differences on others are listed")
	completeWords(cmd, "only", w.nodeNames)
}

// nodeNames returns the nodes of the spec; none if it cannot be read.
func (a *app) nodeNames() []string {
	c, err := a.loadSpec()
	if err != nil {
		return nil
	}
	return (&cluster{spec: c}).names()
}

// checkOnly refuses an empty --only: an unset variable must not mean all nodes.
func (w *work) checkOnly(cmd *cobra.Command) error {
	if cmd.Flags().Changed("only") && len(w.Only) == 0 {
		return errors.New("--only names no node: name one, or omit the flag")
	}
	if err := preflight.CheckNames(w.Ignore); err != nil {
		return fmt.Errorf("--%s: %w", ignoreFlag, err)
	}
	return w.checkPluginChange()
}

// patience is the progress for people who wait for output, and whether it is shown: on a terminal,
// or with -v.
func (w *work) patience() (p *progress, shown bool) {
	tty := isTerminal(w.stderr) && !w.verbose
	if shown = tty || w.verbose; !shown {
		return newProgress(io.Discard, false, io.Discard, w.names()), false
	}
	w.shown = newProgress(w.stderr, tty, io.Discard, w.names())
	return w.shown, true
}

// ensureBundle gets the bundle for an architecture, and reports defects of a cached one; without a
// cache that takes long.
func (w *work) ensureBundle(ctx context.Context, arch string) (artifacts stack.Set, notes []string, err error) {
	options, err := w.bundleOptions(arch)
	if err != nil {
		return nil, nil, err
	}
	show := w.progress.bundle()
	options.Progress = func(e bundle.Event) {
		show(e)
		if e.Phase == bundle.Damaged {
			notes = append(notes, e.String())
		}
	}
	b, err := bundle.Ensure(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	artifacts, err = w.artifacts(ctx, b, show)
	return artifacts, notes, err
}

// bundleOptions are which bundle the cluster needs for an architecture.
func (w *work) bundleOptions(arch string) (o bundle.Options, err error) {
	o.KubernetesVersion, o.Arch = w.spec.Spec.Kubernetes.Version, arch
	if o.CacheDir, err = cacheDir(); err == nil {
		o.Pins, err = bundle.ReadPins(w.bundleLock())
	}
	return o, err
}

// hasBundle reports whether ensureBundle takes no time.
func (w *work) hasBundle(ctx context.Context, arch string) bool {
	options, err := w.bundleOptions(arch)
	return err == nil && bundle.Has(ctx, options)
}

// packedDir is where a cache has compressed programs.
func packedDir(cache string) string { return filepath.Join(cache, "packed") }

// byHost groups changes, in the order of their hosts' names.
func byHost(changes []plan.Change) ([]string, map[string][]plan.Change) {
	of := map[string][]plan.Change{}
	for _, c := range changes {
		of[c.Host] = append(of[c.Host], c)
	}
	return slices.Sorted(maps.Keys(of)), of
}

const connectTimeout = time.Minute

func (a *app) addConnectTimeout(cmd *cobra.Command, usual time.Duration) {
	cmd.Flags().DurationVar(&a.connectTimeout, "connect-timeout", usual, "how long to wait for a machine to answer SSH")
}
