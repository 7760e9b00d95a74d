package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/providers"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/state"
)

func newDestroyCmd(a *app) *cobra.Command {
	run := &destroyRun{app: a}
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Remove the cluster's machines and its state, keys included",
		Long: `Remove everything that apply created: machines, their disks and network, and the cluster's state with its keys and
certificates, in a directory or in S3. None of it can be restored. Bundles and machine images stay in the cache.

Resources that carry the cluster's name and belong to another cluster (another UID) are listed and kept; so are other
files in the state's directory. The cluster's entries are removed from $KUBECONFIG or ~/.kube/config; they are found by
its CA and, if that is your own (spec.pki.authorities), also by its server. With --machine, only machines are removed
that are no longer in the spec and have never joined the cluster, with their disks.`,
		Example: `  slipway destroy                      # the cluster in ./cluster.yaml, after a question
  slipway destroy -f prod.yaml --yes   # no question
  slipway destroy --machine demo-cp-2  # a machine that is no longer in the spec and has never joined`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("machine") && len(run.machines) == 0 {
				return errors.New("--machine names no machine: name one, or omit the flag")
			}
			return run.destroy(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&run.machines, "machine", nil, "remove only these machines, which are not in the spec and have never joined the cluster")
	completeWords(cmd, "machine", run.surplus)
	return cmd
}

// surplus returns the machines that are not in the spec; none if they cannot be determined.
func (r *destroyRun) surplus() []string {
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	_, infra, err := r.find(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, m := range infra.Surplus {
		names = append(names, m.Name)
	}
	return names
}

// destroyRun is one run of destroy.
type destroyRun struct {
	*app
	*cluster
	store    *state.Store
	machines []string
}

func (r *destroyRun) destroy(ctx context.Context) (err error) {
	if r.cluster, err = r.open(ctx); err != nil {
		return err
	}
	// A state is not created only to be removed, and without one it is unknown which resources are
	// this cluster's.
	found, err := hasState(ctx, r.state)
	if err == nil && found {
		r.store, err = r.openStore(ctx)
	}
	if err != nil {
		return err
	}
	if r.store != nil {
		defer func() { err = errors.Join(err, r.store.Close()) }()
	}
	if err := r.identifyToChange(ctx, r.store); err != nil {
		return err
	}
	infra, err := r.provider.Find(ctx)
	if err != nil {
		return err
	}
	switch {
	case r.store == nil:
		return r.unknown(ctx, infra)
	case len(r.machines) > 0:
		return r.some(ctx, infra)
	}
	return r.all(ctx, infra)
}

// unknown describes what exists if there is no state.
func (r *destroyRun) unknown(ctx context.Context, infra *spec.Infrastructure) error {
	if len(infra.Foreign) > 0 {
		return fmt.Errorf("there is no state of cluster %s in %s, and without it the owner of these is unknown; nothing was removed.%s",
			r.spec.Metadata.Name, r.state, foreignHint(infra.Foreign))
	}
	// An apply that failed early has left an empty state.
	if _, err := os.Stat(r.state.Dir); r.state.Dir != "" && err == nil {
		store, err := r.openStore(ctx)
		if err != nil {
			return err
		}
		names, err := store.List(ctx, "") // under the lock: another run may have filled it since
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("another run uses the state %s now; nothing was removed", r.state)
		}
		if err == nil {
			err = store.Destroy(ctx)
		}
		if err = errors.Join(err, store.Close()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(r.stderr, "There is no cluster %s: no state in %s, and no machine.\n", r.spec.Metadata.Name, r.state)
	return err
}

// foreignHint names what belongs to other clusters, and how their owner can remove it.
func foreignHint(foreign []spec.Foreign) string {
	var lines []string
	for _, f := range foreign {
		lines = append(lines, fmt.Sprintf("\n  %s %s (UID %s): remove it with `%s` only if it is not needed any more", f.Kind, f.Name, orNone(f.UID), f.Remove))
	}
	return strings.Join(lines, "")
}

func orNone(uid string) string {
	if uid == "" {
		return "none"
	}
	return uid
}

// all removes the cluster and its state.
func (r *destroyRun) all(ctx context.Context, infra *spec.Infrastructure) error {
	name := r.spec.Metadata.Name
	if r.record.Older && !r.record.Known && len(infra.Foreign) > 0 { // removing the state would remove their keys
		return fmt.Errorf("the state %s has no UID, and these have one: if they are the cluster's own, write it into the metadata of the spec "+
			"(`uid: UID`); if not, remove the state by hand; nothing was removed.%s", r.state, foreignHint(infra.Foreign))
	}
	if k, ok := r.provider.(providers.Keeper); ok {
		return k.Kept()
	}
	if err := r.confirm(ctx, fmt.Sprintf("Destroy cluster %s (UID %s), all that runs on it, its disks and its keys?", name, r.record.UID)); err != nil {
		return err
	}
	kept, unread := keys.Load(ctx, r.store) // while there is a state
	progress := newProgress(r.stderr, isTerminal(r.stderr), io.Discard, r.names())
	progress.Phase("destroy")
	err := underLock(ctx, r.store, func(ctx context.Context) error { return r.provider.Destroy(ctx, progress.Host) })
	if err == nil && len(infra.Foreign) > 0 {
		progress.Note("kept, since they belong to another cluster:" + foreignHint(infra.Foreign))
	}
	progress.Done(err)
	if err != nil {
		return err
	}
	r.forget(kept, unread, infra)
	// The machines are gone: their records in the state are useless, and their keys should not be
	// kept.
	if err := r.store.Destroy(ctx); err != nil {
		return err
	}
	return r.removeDir()
}

// removeDir removes the cluster's own directory, from which the provider has removed its files.
// Other files there are not slipway's.
func (r *destroyRun) removeDir() error {
	if err := os.Remove(r.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if left, rerr := os.ReadDir(r.dir); rerr == nil && len(left) > 0 {
			_, err = fmt.Fprintf(r.stderr, "%s is kept: it contains files that slipway did not write, such as %s.\n", r.dir, left[0].Name())
			return err
		}
		return fmt.Errorf("remove the cluster's directory: %w", err)
	}
	return nil
}

// forget removes the cluster from the user's kubeconfigs. Failures are reported, and do not stop
// destroy.
func (r *destroyRun) forget(kept *keys.Stored, unread error, infra *spec.Infrastructure) {
	if unread != nil {
		_, _ = fmt.Fprintf(r.stderr, "Warning: the cluster's entries stay in the kubeconfig, since its CA cannot be read: %v\n", unread)
		return
	}
	for _, line := range forgetKubeconfig(r.casOf(kept, infra)) {
		_, _ = fmt.Fprintln(r.stderr, line)
	}
}

// some removes machines that have never been part of the cluster.
func (r *destroyRun) some(ctx context.Context, infra *spec.Infrastructure) error {
	for _, name := range r.machines {
		known := func(m spec.Machine) bool { return m.Name == name }
		up := r.record.Up
		switch {
		case slices.ContainsFunc(infra.Machines, known):
			return fmt.Errorf("machine %s is in %s: remove it from there first; nothing was removed", name, r.file)
		case !slices.ContainsFunc(infra.Surplus, known):
			return fmt.Errorf("the cluster has no machine %s; nothing was removed", name)
		case up == nil:
			return errors.New("the state does not record yet that the cluster has been up, nor which machines are part of it: " +
				"run `slipway apply` first; nothing was removed")
		}
		if _, member := up.ControlPlanes[name]; member {
			return fmt.Errorf("machine %s is a control plane of the cluster, and removing one is not available yet; nothing was removed", name)
		}
	}
	if err := r.neverJoined(ctx, infra); err != nil {
		return err
	}
	if err := r.confirm(ctx, fmt.Sprintf("Remove %s with all that is on its disk?", list(r.machines))); err != nil {
		return err
	}
	progress := newProgress(r.stderr, isTerminal(r.stderr), io.Discard, r.machines)
	progress.Phase("destroy")
	err := underLock(ctx, r.store, func(ctx context.Context) error { return r.provider.Remove(ctx, r.machines, progress.Host) })
	progress.Done(err)
	return err
}

// neverJoined checks on the machines whether they hold anything of a cluster: one that does not
// answer is not removed.
func (r *destroyRun) neverJoined(ctx context.Context, infra *spec.Infrastructure) error {
	var machines []spec.Machine
	for _, m := range infra.Surplus {
		if slices.Contains(r.machines, m.Name) {
			machines = append(machines, m)
		}
	}
	hosts, closeAll, failed := r.wayIn(connectTimeout).DialAll(ctx, machines)
	defer closeAll()
	for _, m := range machines {
		if err := failed[m.Name]; err != nil {
			return fmt.Errorf("it is unknown whether %s has joined the cluster; it was not removed: %w", m.Name, err)
		}
		joined, err := observe.HasJoined(ctx, hosts[m.Name])
		if err != nil {
			return fmt.Errorf("it is unknown whether %s has joined the cluster; it was not removed: %w", m.Name, err)
		}
		if joined != "" {
			return fmt.Errorf("machine %s has %s: it has joined the cluster, and removing it is not available yet; nothing was removed", m.Name, joined)
		}
	}
	return nil
}
