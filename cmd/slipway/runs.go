package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/state"
)

func newRunsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the cluster's runs, or show what one did and when",
		Long: `List the recorded runs of apply, of preflight --fix, of certs renew and of each stage of a rotation, the oldest first. The
state keeps the last 100. It takes no lock: a run in progress is listed as running.`,
		Example: `  slipway runs
  slipway runs show                  # the timeline of the last one
  slipway runs --output json | jq '.[] | select(.result == "failed")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runs(cmd.Context()) },
	}
	cmd.AddCommand(newRunsShowCmd(a))
	return cmd
}

func newRunsShowCmd(a *app) *cobra.Command {
	var page string
	cmd := &cobra.Command{
		Use:   "show [N]",
		Short: "Draw the timeline of run N, or of the last one",
		Long: `Draw a run's timeline: a bar for each step on each host, waiting times, the chain of steps that determined the
duration of the run, and the complete errors of failed steps. --html writes the same as a page that needs no network and
can be shared; it names hosts and files, and contains the output of failed steps.`,
		Example: `  slipway runs show                  # the last run
  slipway runs show 12 --html run-12.html
  slipway runs show 12 --output json | jq '.steps[] | select(.state == "failed").error'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.showRun(cmd.Context(), args, page) },
	}
	cmd.Flags().StringVar(&page, "html", "", "write a page to `FILE` (- is the standard output) instead")
	_ = cmd.MarkFlagFilename("html", "html")
	return cmd
}

// runReader reads a cluster's journal while others may write to it.
type runReader struct {
	*state.Store
	cluster string
	live    bool // another process has the lock
}

func (a *app) openRuns(ctx context.Context) (*runReader, error) {
	spec, err := a.loadSpec()
	if err != nil {
		return nil, err
	}
	where, dir, err := a.stateOf(spec)
	if err != nil {
		return nil, err
	}
	c := &cluster{spec: spec, state: where, dir: dir}
	store, err := c.readStore(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s has no state in %s: run `slipway apply` first, "+
			"or check that spec.state and SLIPWAY_STATE_DIR are the same as then", spec.Metadata.Name, where)
	}
	if err != nil {
		return nil, err
	}
	live, err := store.Locked(ctx)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &runReader{store, spec.Metadata.Name, live}, nil
}

// runSummary is a run in a list. Its JSON is documented in docs/runs.md.
type runSummary struct {
	Number      int           `json:"number"`
	Command     string        `json:"command"`
	Operator    string        `json:"operator,omitempty"`
	Slipway     string        `json:"slipway,omitempty"`
	Began       time.Time     `json:"began"`
	Ended       time.Time     `json:"ended,omitzero"`
	Result      journal.State `json:"result"`
	TookSeconds float64       `json:"tookSeconds"`
	Steps       int           `json:"steps"`
	Done        int           `json:"done"`
	Failed      int           `json:"failed"`
	Changes     int           `json:"changes"`
}

func summarize(r *journal.Run, now time.Time) runSummary {
	return runSummary{
		Number: r.Number, Command: r.Command, Operator: r.Operator, Slipway: r.Slipway, Began: r.Began, Ended: r.Ended, Result: r.Result,
		TookSeconds: r.Took(now).Seconds(), Steps: len(r.Steps), Done: r.Count(journal.Succeeded), Failed: r.Count(journal.Failed),
		Changes: r.Changes(),
	}
}

func (a *app) runs(ctx context.Context) (err error) {
	reader, err := a.openRuns(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	runs, damaged, err := journal.List(ctx, reader, reader.live)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		_, _ = fmt.Fprintf(a.stderr, "Warning: %v\n", d)
	}
	now := time.Now()
	summaries := []runSummary{}
	for _, r := range runs {
		summaries = append(summaries, summarize(r, now))
	}
	switch {
	case a.output == "json":
		return a.printJSON(summaries)
	case len(summaries) == 0:
		_, err = fmt.Fprintf(a.stdout, "No run of cluster %s is recorded.\n", reader.cluster)
		return err
	}
	return printRuns(a.stdout, summaries)
}

func printRuns(out io.Writer, runs []runSummary) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "RUN\tBEGAN\tCOMMAND\tRESULT\tTOOK\tSTEPS\tCHANGES\tOPERATOR")
	for _, r := range runs {
		steps := "-"
		if r.Steps > 0 {
			steps = fmt.Sprintf("%d/%d", r.Done, r.Steps)
		}
		if r.Failed > 0 {
			steps += fmt.Sprintf(", %d failed", r.Failed)
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.Number, r.Began.Local().Format(time.DateTime), r.Command, r.Result,
			seconds(time.Duration(r.TookSeconds*float64(time.Second))), steps, r.Changes, r.Operator)
	}
	return table.Flush()
}

func (a *app) showRun(ctx context.Context, args []string, page string) (err error) {
	if page != "" && a.output == "json" {
		return errors.New("--html and --output json cannot be combined: give one of them")
	}
	reader, err := a.openRuns(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	run, err := reader.find(ctx, args)
	if err != nil {
		return err
	}
	switch {
	case page == "-":
		return journal.WriteHTML(a.stdout, run, time.Now())
	case page != "":
		if err := writePage(page, run); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stderr, "Run %d is in %s: open it in a browser.\n", run.Number, page)
		return err
	case a.output == "json":
		return a.printJSON(run)
	}
	width, color := 100, false
	if file, ok := unescaped(a.stdout).(*os.File); ok && isTerminal(file) {
		color = os.Getenv("NO_COLOR") == "" // no-color.org
		if w, _, err := term.GetSize(int(file.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	return journal.WriteTimeline(unescaped(a.stdout), run, time.Now(), width, color)
}

// find returns the run whose number is in args, or the last one.
func (r *runReader) find(ctx context.Context, args []string) (*journal.Run, error) {
	numbers, err := journal.Numbers(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("no run of cluster %s is recorded: `slipway apply` records one", r.cluster)
	}
	last := numbers[len(numbers)-1]
	wanted := last
	if len(args) > 0 {
		if wanted, err = strconv.Atoi(args[0]); err != nil || wanted < 1 {
			return nil, fmt.Errorf("%q is not the number of a run: see `slipway runs`", args[0])
		}
	}
	if !slices.Contains(numbers, wanted) {
		return nil, fmt.Errorf("run %d of cluster %s is not recorded; runs %d to %d are: see `slipway runs`", wanted, r.cluster, numbers[0], last)
	}
	return journal.Get(ctx, r, wanted, r.live)
}

func writePage(path string, run *journal.Run) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write the page: %w", closeErr)
		}
	}()
	out := bufio.NewWriter(file)
	if err := journal.WriteHTML(out, run, time.Now()); err != nil {
		return err
	}
	return out.Flush()
}

// completeRuns returns the numbers of runs, the newest first.
func (a *app) completeRuns(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	if len(args) > 0 {
		return nil, directive
	}
	reader, err := a.openRuns(cmd.Context())
	if err != nil {
		return nil, directive
	}
	defer func() { _ = reader.Close() }()
	runs, _, err := journal.List(cmd.Context(), reader, reader.live)
	if err != nil {
		return nil, directive
	}
	var offers []string
	for _, r := range slices.Backward(runs) {
		offers = append(offers, fmt.Sprintf("%d\t%s, %s, %s", r.Number, r.Began.Local().Format(time.DateTime), r.Command, r.Result))
	}
	return offers, directive
}
