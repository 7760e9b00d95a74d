package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
)

func newPlanCmd(a *app) *cobra.Command {
	run := &planRun{work: work{app: a}}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do, why, and what it would disturb",
		Long: `Show what apply would do: every file, program, unit, kernel setting, image, label and object that differs, on which
host, why, and what changing it would disturb. Plan changes nothing and takes no lock.

Hosts with the same changes are grouped, and many changes of a kind are counted; -v lists everything, with the steps in
their order. ` + "`slipway apply FILE`" + ` applies exactly a saved plan, and refuses if anything has changed in the meantime.
A saved plan holds no secrets. docs/plan.md describes its JSON; --output markdown is for the comment of a pull request,
see docs/gitops.md.`,
		Example: `  slipway plan                         # in short
  slipway plan --diff                  # with text diffs
  slipway plan --detailed-exitcode     # 0: no changes, 2: changes, 1: an error
  slipway plan -o next.plan && slipway apply next.plan
  slipway plan --output markdown | gh pr comment --body-file -
  slipway plan --allow-plugin-change   # if spec.network.plugin changed: what that would disturb
  slipway plan --output json | jq '.changes[] | select(.cause == "drift")'`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{moreOutputs: markdownOutput},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := run.checkOnly(cmd); err != nil {
				return err
			}
			return run.plan(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&run.diff, "diff", false, "show text diffs; secrets are never shown")
	flags.BoolVar(&run.detailed, "detailed-exitcode", false, "exit with 2 if there are changes")
	flags.StringVarP(&run.out, "out", "o", "", "save the plan in `FILE`, for slipway apply FILE")
	a.addConnectTimeout(cmd, connectTimeout)
	_ = cmd.MarkFlagFilename("out")
	run.addOnly(cmd)
	run.addPluginChange(cmd)
	run.addIgnore(cmd)
	return cmd
}

// planRun is one run of plan.
type planRun struct {
	work
	diff, detailed bool
	out            string
}

func (r *planRun) plan(ctx context.Context) (err error) {
	if err := r.checkOut(); err != nil {
		return err
	}
	if r.cluster, err = r.open(ctx, r.authorities(ctx), haveBundle()); err != nil {
		return err
	}
	store, err := r.readStoreIfAny(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore(store)) }()
	if err := r.identifyToChange(ctx, store); err != nil {
		return err
	}
	r.session(store)
	var shown bool
	r.progress, shown = r.patience()
	p, diffs, err := r.make(ctx)
	r.progress.Done(err)
	if err != nil {
		return err
	}
	if !shown {
		for _, note := range r.Notes() {
			_, _ = fmt.Fprintln(r.stderr, note)
		}
	}
	if err := r.show(p, diffs); err != nil || r.outlook == nil || p.Empty() {
		return err
	}
	_, err = fmt.Fprintln(r.stderr, r.outlook(p))
	return err
}

// make plans. If there are no machines, it observes nothing.
func (r *planRun) make(ctx context.Context) (*plan.Plan, converge.TextDiffs, error) {
	r.progress.Phase("machines and bundle")
	if err := r.Preflight(ctx); err != nil {
		return nil, nil, err
	}
	if machines := r.MachineChanges(); len(machines) > 0 {
		if r.out != "" {
			return nil, nil, fmt.Errorf("machine %s %s: its changes are unknown until it runs, and a saved plan has to be exact; "+
				"run `slipway apply`", machines[0].Name, machines[0].Reason)
		}
		return r.MachinePlan(), nil, nil
	}
	p, closeAll, err := r.Plan(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll()
	var diffs converge.TextDiffs
	if r.diff {
		diffs, err = r.TextDiffs(ctx, p.Changes)
	}
	return p, diffs, err
}

// show prints the plan, saves it if requested, and chooses the exit code.
func (r *planRun) show(p *plan.Plan, diffs converge.TextDiffs) error {
	held := r.HeldBy(p)
	if r.out != "" {
		if held != nil {
			return fmt.Errorf("a saved plan has to be exact; name the other nodes with --only: %w", held)
		}
		if err := r.save(p); err != nil {
			return err
		}
	}
	p.Basis = nil
	if err := r.print(p, diffs); err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	if held != nil {
		return held
	}
	if r.detailed && !p.Empty() {
		return &exitError{code: exitChanges}
	}
	return nil
}

func (r *planRun) print(p *plan.Plan, diffs converge.TextDiffs) error {
	v := planView{out: r.stdout, plan: p, diffs: diffs, all: r.verbose || r.diff, steps: r.verbose, file: r.file}
	switch r.output {
	case "json":
		return r.printJSON(p)
	case markdownOutput:
		md := planMarkdown{planView: v}
		md.print()
		return md.err
	}
	v.print()
	if r.out != "" {
		v.printf("\nSaved: `slipway apply %s` does exactly this, or refuses.\n", r.out)
	}
	return v.err
}

// save writes the plan with its basis. It holds no secret, but reveals much about the hosts: its
// file is private.
func (r *planRun) save(p *plan.Plan) error {
	text, err := json.Marshal(r.spec)
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	file, err := r.specFile()
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	p.Basis = &plan.Basis{
		SpecFile: file, Spec: text, Only: r.Only, AllowPluginChange: r.AllowPluginChange, Ignore: r.Ignore,
		Unissued: r.Unsaved(), Observed: r.Observed(),
	}
	saved, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	if err := r.checkOut(); err != nil { // checked again: planning takes a while
		return err
	}
	into, err := newPrivateFile("the plan", r.out)
	if err != nil {
		return err
	}
	defer into.Discard()
	return into.Commit(append(saved, '\n'))
}

// checkOut refuses to replace a file that is not a plan: it may be the spec, by mistake.
func (r *planRun) checkOut() error {
	if r.out == "" {
		return nil
	}
	info, err := os.Lstat(r.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("save the plan: %w", err)
	case !info.Mode().IsRegular():
		return &notPlanError{r.out}
	}
	text, err := os.ReadFile(r.out)
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	if len(text) > 0 && !plan.IsPlan(text) { // mktemp makes empty ones
		return &notPlanError{r.out}
	}
	return nil
}

// notPlanError is for a file that a plan would replace, and that is not a plan.
type notPlanError struct{ path string }

func (e *notPlanError) Error() string {
	return fmt.Sprintf("save the plan: %s exists, and is not a saved plan: name another file, or remove it first; nothing was changed", e.path)
}
