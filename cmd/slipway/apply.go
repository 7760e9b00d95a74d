package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/plan"
)

func newApplyCmd(a *app) *cobra.Command {
	run := &applyRun{work: work{app: a}}
	cmd := &cobra.Command{
		Use:   "apply [PLAN]",
		Short: "Make the cluster equal to its spec, or carry out a saved plan",
		Long: `Make the cluster equal to its spec: create machines that are missing, install what is not there, change what
differs, restart what runs with outdated inputs. Hosts are observed first, and only differences are acted on: a second
apply changes nothing, and one that was interrupted goes on where it was.

A living cluster is changed one control plane at a time, and its workers in batches (nodePools[].rollingUpdate), each
behind gates: etcd can spare the member, the API server is ready, etcd is healthy, the node is Ready. A gate that
stays shut ends the run before the next host is touched.

With a plan that ` + "`slipway plan -o PLAN`" + ` has saved, exactly that is done. If anything is not as it was when the plan
was made, apply names it and touches nothing.

The first interrupt (Ctrl-C, or the end of the terminal) lets steps that change something come to their end, and begins
no others; a second Ctrl-C ends at once. Either way running apply again goes on from there.`,
		Example: `  slipway apply                      # the spec in ./cluster.yaml, after showing the plan and a question
  slipway apply -f prod.yaml --yes   # no question
  slipway apply next.plan            # what was planned, to the letter
  slipway apply --only prod-worker-3 # nothing but this node, and no machine but its own
  slipway apply --allow-plugin-change # and let pods lose their network, where spec.network.plugin changes
  slipway apply --parallelism 20     # at most 20 steps at a time`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := run.checkOnly(cmd); err != nil {
				return err
			}
			if len(args) > 0 {
				more := cmd.Flags().Changed("file") || cmd.Flags().Changed("only") || cmd.Flags().Changed("rebuild-empty") ||
					cmd.Flags().Changed(allowPluginFlag)
				return run.applySaved(cmd.Context(), args[0], more)
			}
			return run.apply(cmd.Context())
		},
	}
	run.addParallelism(cmd)
	run.addOnly(cmd)
	run.addPluginChange(cmd)
	cmd.Flags().StringVar(&run.RebuildEmpty, "rebuild-empty", "", "begin again, without its data, with the cluster of this `NAME`, whose etcd data is lost on every control plane")
	completeWords(cmd, "rebuild-empty", func() []string {
		c, err := a.loadSpec()
		if err != nil {
			return nil
		}
		return []string{c.Metadata.Name}
	})
	return cmd
}

// applyRun is one run of apply.
type applyRun struct {
	work
	// resume is the command that goes on after an interrupt, where that is another one.
	resume string
}

// applySaved carries out a plan that was saved. The spec comes with it.
func (r *applyRun) applySaved(ctx context.Context, path string, more bool) error {
	if more {
		return errors.New("a saved plan includes its spec, its nodes and what it was allowed to do: --file, --only, --rebuild-empty and --" + allowPluginFlag +
			" cannot be combined with it")
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the user names the file
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if r.Saved, err = plan.ReadPlan(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.file, r.Only, r.AllowPluginChange = r.Saved.Basis.SpecFile, r.Saved.Basis.Only, r.Saved.Basis.AllowPluginChange
	if r.given, err = r.Saved.Basis.Cluster(r.authorities(ctx), haveBundle()); err != nil {
		return fmt.Errorf("%s: the spec in the plan: %w", path, err)
	}
	return r.apply(ctx)
}

// apply reads as the design tells it: machines, PKI, observe, diff, schedule, run, observe again.
func (r *applyRun) apply(ctx context.Context) error {
	return r.locked(ctx, func() error {
		if err := r.confirmMachines(ctx); err != nil {
			return err
		}
		first := r.record.Up == nil
		if err := r.journaled(ctx, "apply", ""); err != nil {
			return err
		}
		_, err := fmt.Fprintln(r.stderr, r.next(first))
		return err
	})
}

// next is what to run after an apply: one that was the first gives people a cluster to use.
func (r *applyRun) next(first bool) string {
	if first {
		return fmt.Sprintf("Next: `slipway kubeconfig --merge%s` gives the cluster to your kubectl; `slipway status%s` shows how it is.", r.fileArg(), r.fileArg())
	}
	return fmt.Sprintf("Next: `slipway status%s` shows how the cluster is.", r.fileArg())
}

// locked opens the cluster with its state for writing, and finds its machines.
func (r *applyRun) locked(ctx context.Context, do func() error) (err error) {
	if r.cluster, err = r.open(r.authorities(ctx), haveBundle()); err != nil {
		return err
	}
	store, err := r.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := r.identifyToChange(ctx, store); err != nil {
		return err
	}
	r.session(store)
	if err := r.Preflight(ctx); err != nil {
		return err
	}
	return do()
}

// allRun refuses where a machine is missing or does not run: what it could not be told now it would be late for.
func (r *applyRun) allRun(otherwise string) error {
	if changes := r.MachineChanges(); len(changes) > 0 {
		return fmt.Errorf("machine %s %s, and without it %s: run `slipway apply` first; nothing was changed", changes[0].Name, changes[0].Reason, otherwise)
	}
	return nil
}

// journaled applies, with progress, a log and a journal: one run of a command, or one of its stages.
func (r *applyRun) journaled(ctx context.Context, command, stage string) (err error) {
	name := strings.ReplaceAll(command, " ", "-")
	if stage != "" {
		name, stage = name+"-"+stage, ": stage "+stage
	}
	log, err := r.Store.Log(time.Now().UTC().Format("20060102T150405Z") + "-" + name + ".log")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r.progress = newProgress(r.stderr, isTerminal(r.stderr) && !r.verbose, log, r.names())
	if stage != "" {
		r.progress.Note(command + stage)
	}
	if r.progress.recorder, err = journal.Start(ctx, r.Store, newRun(r.spec, command+stage)); err != nil {
		return err
	}
	err = underLock(ctx, r.Store, r.Apply)
	if lost := r.progress.recorder.End(ctx, err); lost != nil {
		r.progress.Note("warning: " + lost.Error())
	}
	r.progress.Done(err)
	if ctx.Err() != nil {
		return r.interrupted(command, err)
	}
	return err
}

// interrupted says how to go on, and what failed on the way beside being interrupted.
func (r *applyRun) interrupted(command string, err error) error {
	why := fmt.Errorf("interrupted; what was done stays, and `slipway %s -f %s%s` goes on from there", cmp.Or(r.resume, command), r.file, r.rebuildArg()+r.pluginArg())
	if r.Saved != nil {
		why = fmt.Errorf("interrupted; what was done stays: plan again, and apply the new plan")
	}
	var run *dag.Error
	if errors.As(err, &run) {
		for _, f := range run.Failed {
			if !errors.Is(f.Err, context.Canceled) {
				why = errors.Join(why, fmt.Errorf("%s: %w", f.Step, f.Err))
			}
		}
	}
	return why
}

// confirmMachines asks before machines are made. A saved plan has none to make.
func (r *applyRun) confirmMachines(ctx context.Context) error {
	changes := r.MachineChanges()
	if r.Saved != nil && len(changes) > 0 {
		return &provision.MovedError{Moved: []string{fmt.Sprintf("machine %s %s", changes[0].Name, changes[0].Reason)}}
	}
	if len(changes) == 0 {
		return nil
	}
	var create, start []string
	disks := false
	for _, c := range changes {
		if c.Action != plan.Create {
			start = append(start, c.Name)
			continue
		}
		create = append(create, c.Name)
		disks = disks || r.Found().Disks[c.Name] != ""
	}
	if err := r.confirm(ctx, r.machineQuestion(create, start)); err != nil {
		return err
	}
	if len(r.Found().Machines) == 0 && !disks && r.record.Up == nil {
		r.consent = true // what follows on new machines is what was asked for; what it means for others is asked again
	}
	return nil
}

// machineQuestion asks for machines alone: a yes to it is none to what happens to data.
func (r *applyRun) machineQuestion(create, start []string) string {
	var what []string
	if len(start) > 0 {
		what = append(what, "start "+list(start))
	}
	if len(create) > 0 {
		what = append(what, "create "+list(create))
	}
	if len(create) > 0 && r.record.Up == nil {
		what = append(what, "install Kubernetes "+r.spec.Spec.Kubernetes.Version)
	}
	question := strings.Join(what, " and ") + "?"
	return strings.ToUpper(question[:1]) + question[1:]
}
