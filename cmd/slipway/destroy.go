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
		Long: `Remove everything that apply made: machines, their disks and network, and the cluster's state with its keys and
certificates, in a directory or in S3. Nothing of it can be brought back. Bundles and machine images stay in the cache.

What carries the name of the cluster and belongs to another one (another UID) is named and left alone, and so is whatever
else is in the directory of the state. The cluster's entries are taken out of $KUBECONFIG or ~/.kube/config, by its CA, and,
where that is your own (spec.pki.authorities), by its server as well; all others stay. With --machine only machines are
removed that the spec no longer has and that have never been members of etcd, with their disks.`,
		Example: `  slipway destroy                      # the cluster in ./cluster.yaml, after a question
  slipway destroy -f prod.yaml --yes   # no question
  slipway destroy --machine demo-cp-2  # a machine that is not in the spec any more and has never joined`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("machine") && len(run.machines) == 0 {
				return errors.New("--machine names no machine: name one, or leave the flag out")
			}
			return run.destroy(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&run.machines, "machine", nil, "remove only these machines, which are not in the spec and have never joined the cluster")
	completeWords(cmd, "machine", run.surplus)
	return cmd
}

// surplus names the machines that the spec does not have; none where they cannot be found out.
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
	if r.cluster, err = r.open(); err != nil {
		return err
	}
	// A state is not made only to be removed, and without one nobody can tell what is this cluster's.
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

// unknown says what there is where no state is.
func (r *destroyRun) unknown(ctx context.Context, infra *spec.Infrastructure) error {
	if len(infra.Foreign) > 0 {
		return fmt.Errorf("there is no state of cluster %s in %s, and without it nobody can tell whose these are; nothing was removed.%s",
			r.spec.Metadata.Name, r.state, foreignHint(infra.Foreign))
	}
	// An apply that came to nothing has left a state that holds nothing.
	if _, err := os.Stat(r.state.Dir); r.state.Dir != "" && err == nil {
		store, err := r.openStore(ctx)
		if err != nil {
			return err
		}
		names, err := store.List(ctx, "") // under the lock: another run may have filled it since
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("the state %s is another run's by now; nothing was removed", r.state)
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

// foreignHint names what is another's, and what its owner can do.
func foreignHint(foreign []spec.Foreign) string {
	var lines []string
	for _, f := range foreign {
		lines = append(lines, fmt.Sprintf("\n  %s %s (UID %s): remove it with `%s` only if nobody needs it", f.Kind, f.Name, orNone(f.UID), f.Remove))
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
	if r.record.Older && !r.record.Known && len(infra.Foreign) > 0 { // with the state would go the keys to them
		return fmt.Errorf("the state %s knows of no UID, and these have one: if they are the cluster's own, write it into the metadata of the spec "+
			"(`uid: UID`); if not, remove the state by hand; nothing was removed.%s", r.state, foreignHint(infra.Foreign))
	}
	if err := r.confirm(ctx, fmt.Sprintf("Destroy cluster %s (UID %s), all that runs on it, its disks and its keys?", name, r.record.UID)); err != nil {
		return err
	}
	kept, unread := keys.Load(ctx, r.store) // while there is a state
	progress := newProgress(r.stderr, isTerminal(r.stderr), io.Discard, r.names())
	progress.Phase("destroy")
	err := underLock(ctx, r.store, func(ctx context.Context) error { return r.provider.Destroy(ctx, progress.Host) })
	if err == nil && len(infra.Foreign) > 0 {
		progress.Note("left alone, since another cluster's:" + foreignHint(infra.Foreign))
	}
	progress.Done(err)
	if err != nil {
		return err
	}
	r.forget(kept, unread, infra)
	// The machines are gone: what the state knew of them is worth nothing, and its keys should not lie about.
	if err := r.store.Destroy(ctx); err != nil {
		return err
	}
	return r.removeDir()
}

// removeDir removes the cluster's own directory, of which the provider has removed what it had there. What else is there is
// not slipway's.
func (r *destroyRun) removeDir() error {
	if err := os.Remove(r.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if left, rerr := os.ReadDir(r.dir); rerr == nil && len(left) > 0 {
			_, err = fmt.Fprintf(r.stderr, "%s is left as it is: it holds what slipway did not put there, such as %s.\n", r.dir, left[0].Name())
			return err
		}
		return fmt.Errorf("remove the cluster's directory: %w", err)
	}
	return nil
}

// forget takes the cluster out of the user's kubeconfigs. What goes wrong there is said, and keeps nothing from going on.
func (r *destroyRun) forget(kept *keys.Stored, unread error, infra *spec.Infrastructure) {
	if unread != nil {
		_, _ = fmt.Fprintf(r.stderr, "Warning: the cluster's entries are left in the kubeconfig, for its CA cannot be read: %v\n", unread)
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
			return fmt.Errorf("machine %s is in %s: take it out of there first; nothing was removed", name, r.file)
		case !slices.ContainsFunc(infra.Surplus, known):
			return fmt.Errorf("the cluster has no machine %s; nothing was removed", name)
		case up == nil:
			return fmt.Errorf("the state does not know yet that the cluster has been up, and so not which machines are part of it: run `slipway apply` first; nothing was removed")
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

// neverJoined asks the machines themselves whether they hold anything of a cluster: one that does not answer is not removed.
func (r *destroyRun) neverJoined(ctx context.Context, infra *spec.Infrastructure) error {
	var machines []spec.Machine
	for _, m := range infra.Surplus {
		if slices.Contains(r.machines, m.Name) {
			machines = append(machines, m)
		}
	}
	hosts, closeAll, failed := wayIn(connectTimeout).DialAll(ctx, machines)
	defer closeAll()
	for _, m := range machines {
		if err := failed[m.Name]; err != nil {
			return fmt.Errorf("whether %s has joined the cluster is not known, and it is not removed: %w", m.Name, err)
		}
		joined, err := observe.HasJoined(ctx, hosts[m.Name])
		if err != nil {
			return fmt.Errorf("whether %s has joined the cluster is not known, and it is not removed: %w", m.Name, err)
		}
		if joined != "" {
			return fmt.Errorf("machine %s has %s: it has joined the cluster, and removing it is not available yet; nothing was removed", m.Name, joined)
		}
	}
	return nil
}
