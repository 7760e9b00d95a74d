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
		Long: `Make the cluster equal to its spec: create missing machines, install missing components, change what differs,
restart what runs with outdated inputs. Hosts are observed first, and only differences are changed: a second apply
changes nothing, and an interrupted one continues where it stopped.

A running cluster is changed one control plane at a time, and its workers in batches (nodePools[].rollingUpdate), each
behind gates: etcd keeps its quorum without the member, the API server is ready, etcd is healthy, the node is Ready. If
a gate does not open, the run ends before it changes the next host.

With a PLAN saved by ` + "`slipway plan -o PLAN`" + `, exactly that is done. If anything has changed since the plan was made,
apply lists the differences and changes nothing.

The first interrupt (Ctrl-C, or closing the terminal) lets steps that change something finish, and starts no others; a
second Ctrl-C ends at once. In both cases, running apply again continues from there.`,
		Example: `  slipway apply                      # the spec in ./cluster.yaml, after showing the plan and a question
  slipway apply -f prod.yaml --yes   # no question
  slipway apply next.plan            # exactly what was planned
  slipway apply --only prod-worker-3 # only this node and its machine
  slipway apply --allow-plugin-change # if spec.network.plugin changed: pods lose their network
  slipway apply --parallelism 20     # at most 20 steps at a time`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := run.checkOnly(cmd); err != nil {
				return err
			}
			if len(args) > 0 {
				more := cmd.Flags().Changed("file") || cmd.Flags().Changed("only") || cmd.Flags().Changed("rebuild-empty") ||
					cmd.Flags().Changed(allowPluginFlag) || cmd.Flags().Changed(ignoreFlag)
				return run.applySaved(cmd.Context(), args[0], more)
			}
			return run.apply(cmd.Context())
		},
	}
	run.addParallelism(cmd)
	run.addOnly(cmd)
	run.addPluginChange(cmd)
	run.addIgnore(cmd)
	cmd.Flags().StringVar(&run.RebuildEmpty, "rebuild-empty", "", "rebuild the cluster `NAME` without its data, if its etcd data is lost on every control plane")
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
	// resume is the command that continues after an interrupt, if that is another one.
	resume string
}

// applySaved carries out a saved plan, which includes its spec.
func (r *applyRun) applySaved(ctx context.Context, path string, more bool) error {
	if more {
		return errors.New("a saved plan includes its spec, its nodes and what it was allowed to do: --file, --only, --rebuild-empty, --" + ignoreFlag +
			" and --" + allowPluginFlag + " cannot be combined with it")
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the user names the file
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if r.Saved, err = plan.ReadPlan(text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	basis := r.Saved.Basis
	r.file, r.Only, r.AllowPluginChange, r.Ignore = basis.SpecFile, basis.Only, basis.AllowPluginChange, basis.Ignore
	if r.given, err = r.Saved.Basis.Cluster(r.authorities(ctx), haveBundle()); err != nil {
		return fmt.Errorf("%s: the spec in the plan: %w", path, err)
	}
	return r.apply(ctx)
}

// apply follows the design: machines, PKI, observe, diff, schedule, run, observe again.
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

// next is the command to suggest after an apply: after the first one, how to use the cluster.
func (r *applyRun) next(first bool) string {
	if first {
		return fmt.Sprintf("Next: `slipway kubeconfig --merge%s` sets up your kubectl; `slipway status%s` shows the cluster's health.", r.fileArg(), r.fileArg())
	}
	return fmt.Sprintf("Next: `slipway status%s` shows the cluster's health.", r.fileArg())
}

// locked opens the cluster with its state for writing, and finds its machines.
func (r *applyRun) locked(ctx context.Context, do func() error) (err error) {
	if r.cluster, err = r.open(ctx, r.authorities(ctx), haveBundle()); err != nil {
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

// allRun refuses if a machine is missing or does not run: it would miss this change.
func (r *applyRun) allRun(otherwise string) error {
	if changes := r.MachineChanges(); len(changes) > 0 {
		return fmt.Errorf("machine %s %s, and without it %s: run `slipway apply` first; nothing was changed", changes[0].Name, changes[0].Reason, otherwise)
	}
	return nil
}

// journaled applies, with progress, a log and a journal: one run of a command, or one of its
// stages.
func (r *applyRun) journaled(ctx context.Context, command, stage string) error {
	return r.recorded(ctx, command, stage, r.Apply)
}

// recorded is journaled for a run that does something else than Apply.
func (r *applyRun) recorded(ctx context.Context, command, stage string, do func(context.Context) error) (err error) {
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
	r.shown = r.progress
	if stage != "" {
		r.progress.Note(command + stage)
	}
	if r.progress.recorder, err = journal.Start(ctx, r.Store, newRun(r.spec, command+stage)); err != nil {
		return err
	}
	err = underLock(ctx, r.Store, do)
	if lost := r.progress.recorder.End(ctx, err); lost != nil {
		r.progress.Note("warning: " + lost.Error())
	}
	r.progress.Done(err)
	if ctx.Err() != nil {
		return r.interrupted(command, err)
	}
	return err
}

// interrupted says how to continue, and which steps failed besides being interrupted.
func (r *applyRun) interrupted(command string, err error) error {
	why := fmt.Errorf("interrupted; completed changes are kept, and `slipway %s -f %s%s` continues from there",
		cmp.Or(r.resume, command), r.file, r.rebuildArg()+r.pluginArg()+r.ignoreArg())
	if r.Saved != nil {
		why = fmt.Errorf("interrupted; completed changes are kept: plan again, and apply the new plan")
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

// confirmMachines asks before machines are created. A saved plan has none to create.
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
		r.consent = true // the changes on new machines were agreed to; effects on others are asked about again
	}
	return nil
}

// machineQuestion asks only about machines: a yes to it does not cover what happens to data.
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
