package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision/bundle"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
)

// appliedName is where the state store keeps what was last applied.
const appliedName = "applied.json"

// work is one plan or apply: what it has found out so far.
type work struct {
	*app
	only        []string
	parallelism int
	prove       plan.Proving
	rebuild     string   // the name of a cluster that may begin again without its data
	beginning   string   // the generation that it then gets
	allowPlugin bool     // the network plugin of a cluster that has been up may change
	renew       []string // patterns of certificates that are issued anew
	leaving     []string // items that a rotation is about to replace

	*cluster
	store    *state.Store // nil where a plan finds none
	progress *progress
	damaged  []string             // what the cache's bundle was not, and was made anew
	found    *spec.Infrastructure // before anything was done
	// preflights says what becomes of machines; infra are those that there are then, with those that are gone.
	preflights plan.Preflight
	infra      *spec.Infrastructure
	causes     []error // why machines are left alone that could not be reached
	ensured    bool    // the provider has done its part
	changing   bool    // what is found is going to be changed
	stored     *keys.Stored
	secrets    *keys.Secrets
	hosts      map[string]host.Host
	runner     *converge.Runner
}

// addParallelism gives a command the flags of how it goes about its steps.
func (w *work) addParallelism(cmd *cobra.Command) {
	cmd.Flags().IntVar(&w.parallelism, "parallelism", 64, "how many steps may run at a time")
	cmd.Flags().DurationVar(&w.connectTimeout, "connect-timeout", connectTimeout, "how long to wait for a machine to answer SSH")
}

// addOnly gives a command the flag --only.
func (w *work) addOnly(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&w.only, "only", nil, "only these nodes; what differs elsewhere is named and left")
	completeWords(cmd, "only", w.nodeNames)
}

// nodeNames are those of the spec; none where it cannot be read.
func (a *app) nodeNames() []string {
	c, err := a.loadSpec()
	if err != nil {
		return nil
	}
	return (&cluster{spec: c}).names()
}

// checkOnly refuses an empty --only: a variable that is not set must not mean everything.
func (w *work) checkOnly(cmd *cobra.Command) error {
	if cmd.Flags().Changed("only") && len(w.only) == 0 {
		return errors.New("--only names no node: name one, or leave the flag out")
	}
	return w.checkPluginChange()
}

// patience is progress for people who wait for what is printed in the end, and whether anybody sees it: on a terminal, or
// with -v.
func (w *work) patience() (p *progress, shown bool) {
	tty := isTerminal(w.stderr) && !w.verbose
	if shown = tty || w.verbose; !shown {
		return newProgress(io.Discard, false, io.Discard, w.names()), false
	}
	return newProgress(w.stderr, tty, io.Discard, w.names()), true
}

// ensureBundle gets the bundle; cold, that takes long.
func (w *work) ensureBundle(ctx context.Context) (map[string]stack.Artifact, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	pins, err := bundle.ReadPins(w.bundleLock())
	if err != nil {
		return nil, err
	}
	b, err := bundle.Ensure(ctx, bundle.Options{
		KubernetesVersion: w.spec.Spec.Kubernetes.Version, CacheDir: cache, Pins: pins,
		Progress: func(e bundle.Event) {
			w.progress.Host("bundle", e.String())
			if e.Phase == bundle.Damaged {
				w.damaged = append(w.damaged, e.String())
			}
		},
	})
	if err != nil {
		return nil, err
	}
	artifacts := stack.Artifacts(b)
	artifacts[w.slipway.Name] = w.slipway
	return artifacts, nil
}

// look observes everything and plans. It changes nothing: secrets that are missing are made, and kept in memory.
// The returned function ends the connections.
func (w *work) look(ctx context.Context, artifacts map[string]stack.Artifact) (*plan.Plan, func(), error) {
	nothing := func() {}
	w.surplus()
	var err error
	if w.stored, err = keys.Load(ctx, w.store); err != nil {
		return nil, nothing, err
	}
	w.stored.Leaving = w.leaving
	if w.secrets, err = keys.Ensure(ctx, w.stored, w.renew, w.spec, w.infra, w.own); err != nil {
		return nil, nothing, w.ofRotation(err)
	}
	for _, note := range w.notes() {
		w.progress.Note(note)
	}
	applied, err := w.applied(ctx)
	if err != nil {
		return nil, nothing, err
	}
	w.runner = &converge.Runner{
		Changing: w.changing, Holds: w.holds(), Report: w.progress.Host, Prove: w.prove, Exist: w.exist,
		Input: stack.Input{
			Cluster: w.spec, Machines: w.infra.Machines, Endpoint: stack.ExternalEndpoint(w.spec, w.infra), Artifacts: artifacts,
			PKI: w.secrets.PKI, EncryptionKeys: w.secrets.EncryptionKeys,
			UID: w.identity.UID, Gone: w.preflights.GoneNames(),
		},
		Before: plan.Before{Slipway: version, Applied: applied, PKI: w.secrets.Before, Issued: w.secrets.Issued, EncryptionKeys: w.secrets.BeforeKeys},
	}
	if w.store != nil && w.changing {
		w.runner.Record = w.recorder()
	}
	hosts, closeAll, failed := dialAll(ctx, w.running(), w.connectTimeout)
	w.hosts = hosts
	if err := w.without(ctx, failed); err != nil {
		closeAll()
		return nil, nothing, err
	}
	plan, err := w.observe(ctx)
	if err != nil {
		closeAll()
		return nil, nothing, err
	}
	return plan, closeAll, nil
}

// holds asks for the lock; nil where none is held, as in a plan.
func (w *work) holds() func(context.Context) error {
	if !w.changing {
		return nil
	}
	return w.store.Holds
}

// ofRotation says of signatures that are missing for what a rotation brings whom that concerns: nothing can be applied
// before they are there.
func (w *work) ofRotation(err error) error {
	r := w.stored.Rotation
	if r == nil || r.Stage != certs.Issue || w.prove == plan.ProveStage || !errors.As(err, new(*certs.PendingError)) {
		return err
	}
	return fmt.Errorf("the %v; until what it brings is signed nothing can be applied, unless `slipway %s --rollback` goes back: %w", r, rotate.CommandOf(r), err)
}

// notes are those of the spec and of the secrets, and that a rotation is under way which others would not expect.
func (w *work) notes() []string {
	notes := slices.Concat(w.remarks, w.damaged, w.secrets.Notes())
	if r := w.secrets.PKI.Rotation; r != nil && w.prove != plan.ProveStage {
		notes = append(notes, rotate.UnderWay(r))
	}
	return notes
}

// observe reads hosts and API and works out what differs.
func (w *work) observe(ctx context.Context) (*plan.Plan, error) {
	w.progress.Phase("observe")
	w.runner.Input.Generation, w.runner.Input.Rebuilding = cmp.Or(w.beginning, w.identity.Generation), w.identity.Rebuilding
	w.runner.Input.RebuildEmpty, w.runner.Input.BeenUp, w.runner.Before.Up = w.rebuild != "", w.identity.Up != nil, w.identity.Up
	w.runner.Input.AllowPluginChange = w.allowPlugin
	situation, err := w.runner.Situation(ctx, w.hosts)
	if err != nil {
		return nil, err
	}
	var leftOut []plan.Change
	if len(w.only) > 0 {
		if situation, leftOut, err = situation.Only(w.only); err != nil {
			return nil, err
		}
	}
	if err := situation.Enough(); err != nil {
		return nil, err
	}
	if err := w.allTakePart(situation); err != nil {
		return nil, err
	}
	plan := plan.NewPlan(w.spec.Metadata.Name, situation)
	plan.LeftOut, plan.Slipway = leftOut, version
	return plan, nil
}

// applied reads what was last applied; nil where that is not known.
func (w *work) applied(ctx context.Context) (*plan.Applied, error) {
	if w.store == nil {
		return nil, nil
	}
	return readApplied(ctx, w.store)
}

func readApplied(ctx context.Context, store *state.Store) (*plan.Applied, error) {
	text, err := store.Get(ctx, appliedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var applied plan.Applied
	if json.Unmarshal(text.Reveal(), &applied) != nil {
		return nil, nil // another slipway's: reasons will be less precise, and nothing else
	}
	return &applied, nil
}

// saveApplied records what is on all hosts now: the network plugin, and the rest for the reasons of later changes.
func (w *work) saveApplied(ctx context.Context) error {
	if err := w.runner.RecordPlugin(ctx); err != nil {
		return err
	}
	applied, err := plan.NewApplied(w.runner.Input, version)
	if err != nil {
		return err
	}
	text, err := json.Marshal(applied)
	if err != nil {
		return fmt.Errorf("record what was applied: %w", err)
	}
	if have, err := w.store.Get(ctx, appliedName); err == nil && string(have.Reveal()) == string(text) {
		return nil
	}
	return w.store.Put(ctx, map[string]secret.Bytes{appliedName: text})
}

// settle stores the secrets that were made, sees to what the provider has beside machines (a balancer), and tells the
// provider's own parts what they need, before anything uses them. Of a cluster that lives the state learns that it does.
func (w *work) settle(ctx context.Context, alive bool) error {
	if err := w.secrets.Save(ctx, w.store); err != nil {
		return err
	}
	if alive && w.rebuild == "" { // what only begins is recorded once it has been up
		if err := w.runner.RecordLiving(ctx); err != nil {
			return err
		}
	}
	w.runner.Before.PKI, w.runner.Before.Issued = nil, nil // from here on they are what the cluster has
	if !w.ensured {
		if _, err := w.provider.Ensure(ctx, slices.Sorted(maps.Keys(w.hosts)), w.progress.Host); err != nil {
			return err
		}
	}
	if p, ok := w.provider.(providers.Publisher); ok {
		return p.Publish(w.infra, w.secrets.PKI.Bundle(certs.KubernetesCA))
	}
	return nil
}

// byHost groups changes, in the order of their hosts' names.
func byHost(changes []plan.Change) ([]string, map[string][]plan.Change) {
	of := map[string][]plan.Change{}
	for _, c := range changes {
		of[c.Host] = append(of[c.Host], c)
	}
	return slices.Sorted(maps.Keys(of)), of
}

const connectTimeout = time.Minute
