package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/preflight"
	"slipway.dev/slipway/provision/spec"
)

func newPreflightCmd(a *app) *cobra.Command {
	run := &preflightRun{applyRun: applyRun{work: work{app: a}}}
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Check whether machines can become nodes: system, resources, network, leftovers",
		Long: `Check whether the machines can become nodes, and change nothing: the distribution, the kernel, disks, clocks, identity,
what listens and what other installers have left; and whether each machine reaches the ports of each other one, which is
really tried. Each finding is one line, with a command that helps when it is typed on the machine as printed
(` + "`slipway ssh NODE`" + ` opens a shell there).

Plan and apply check new machines in the same way: an error refuses that machine, and the others continue. On machines
that have something of slipway's already, errors are warnings. --ignore leaves out checks by name, for plan and apply too.
docs/preflight.md lists the checks, and docs/ports.md the ports.

With --fix, slipway runs the commands of the findings for which that is safe (swap, packages, kernel parameters), after it
has shown them and asked.

Exit codes:
  0  no errors; there may be warnings
  1  there are errors, or a machine could not be checked
  3  the spec is invalid`,
		Example: `  slipway preflight
  slipway preflight --only prod-worker-3,prod-worker-4
  slipway preflight --ignore swap,selinux
  slipway preflight --fix
  slipway preflight --output json | jq -r '.findings[] | select(.severity == "error") | "\(.host): \(.remedy)"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := run.checkOnly(cmd); err != nil {
				return err
			}
			return run.preflight(cmd.Context())
		},
	}
	run.addIgnore(cmd)
	run.addOnly(cmd)
	cmd.Flag("only").Usage = "check only these nodes; the others take part in the check of the network"
	cmd.Flags().BoolVar(&run.fix, "fix", false, "run the commands of findings for which that is safe, after a question")
	a.addConnectTimeout(cmd, connectTimeout)
	return cmd
}

// preflightRun is one run of preflight.
type preflightRun struct {
	applyRun
	fix bool
	// causes are why machines could not be checked.
	causes []error
}

// preflightJSON is the result for programs.
type preflightJSON struct {
	Cluster string `json:"cluster"`
	// Checked are the machines that answered, Missing those that do not exist or do not run yet.
	Checked []string `json:"checked"`
	Missing []string `json:"missing"`
	// Unread has, by machine, why it could not be checked.
	Unread   map[string]string   `json:"unread"`
	Findings []preflight.Finding `json:"findings"`
}

func (r *preflightRun) preflight(ctx context.Context) (err error) {
	if r.cluster, err = r.open(ctx, r.authorities(ctx)); err != nil {
		return err
	}
	if err := r.know(ctx); err != nil {
		return err
	}
	if err := plan.CheckOnly(r.Only, r.names()); err != nil { // the machines have said their names
		return err
	}
	result, err := r.check(ctx)
	if err != nil {
		return err
	}
	if err := r.print(result); err != nil {
		return err
	}
	for _, hint := range hints(errors.Join(r.causes...), "slipway preflight"+r.fileArg()) {
		_, _ = fmt.Fprintln(r.stderr, "Hint: "+hint)
	}
	if slices.ContainsFunc(result.Findings, func(f preflight.Finding) bool { return f.Severity == preflight.Error }) || len(result.Unread) > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// know reads which cluster the state belongs to, if there is one.
func (r *preflightRun) know(ctx context.Context) (err error) {
	store, err := r.readStoreIfAny(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore(store)) }()
	if err := r.identify(ctx, store); err != nil {
		return err
	}
	r.session(nil)
	r.Parallelism = 64
	return nil
}

// check finds the machines, asks those that run, and mends what it may.
func (r *preflightRun) check(ctx context.Context) (*preflightJSON, error) {
	infra, err := r.provider.Find(ctx)
	if err != nil {
		return nil, err
	}
	result := &preflightJSON{Cluster: r.spec.Metadata.Name, Checked: []string{}, Missing: []string{}, Unread: map[string]string{}, Findings: []preflight.Finding{}}
	running := infra.Running()
	for _, name := range r.names() {
		switch known := func(m spec.Machine) bool { return m.Name == name }; {
		case !r.wants(name) || slices.ContainsFunc(running, known):
		case infra.Failed[name] != nil:
			r.unread(result, name, infra.Failed[name])
		default:
			result.Missing = append(result.Missing, name)
		}
	}
	hosts, closeAll, failed := r.Dial(ctx, running)
	defer closeAll()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for name, why := range failed {
		r.unread(result, name, why)
	}
	if err := r.judge(ctx, result, infra, hosts); err != nil || !r.fix {
		return result, err
	}
	if ran, err := r.mend(ctx, result.Findings, hosts); err != nil || !ran {
		return result, err
	}
	return result, r.judge(ctx, result, infra, hosts)
}

// judge fills in what the checks found.
func (r *preflightRun) judge(ctx context.Context, result *preflightJSON, infra *spec.Infrastructure, hosts map[string]host.Host) error {
	report, err := preflight.Run(ctx, r.PreflightInput(infra, r.Only), hosts)
	if err != nil {
		return err
	}
	result.Checked = result.Checked[:0]
	for name, why := range report.Unread {
		r.unread(result, name, why)
	}
	for _, n := range report.Nodes {
		if r.wants(n.Name) {
			result.Checked = append(result.Checked, n.Name)
		}
	}
	result.Findings = append(result.Findings[:0], report.Findings...)
	return nil
}

// unread notes why a machine that was to be checked could not be.
func (r *preflightRun) unread(result *preflightJSON, name string, why error) {
	if r.wants(name) && result.Unread[name] == "" {
		result.Unread[name] = host.Reason(name, why)
		r.causes = append(r.causes, why)
	}
}

func (r *preflightRun) wants(name string) bool {
	return len(r.Only) == 0 || slices.Contains(r.Only, name)
}

// print prints the result, and a sentence about it.
func (r *preflightRun) print(result *preflightJSON) error {
	if r.output == "json" {
		return r.printJSON(result)
	}
	var lines []string
	for _, f := range result.Findings {
		lines = append(lines, f.String())
	}
	for _, name := range slices.Sorted(maps.Keys(result.Unread)) {
		lines = append(lines, fmt.Sprintf("%s: error: it could not be checked: %s", name, result.Unread[name]))
	}
	for _, name := range result.Missing {
		lines = append(lines, fmt.Sprintf("%s: its machine does not run yet; `slipway apply%s` checks it before it is changed", name, r.fileArg()))
	}
	lines = append(lines, verdict(result, r.Ignore))
	if n := plan.Count(len(fixable(result.Findings)), "finding"); !r.fix && len(fixable(result.Findings)) > 0 {
		lines = append(lines, fmt.Sprintf("`slipway preflight --fix%s%s` runs the commands of %s, after a question.", r.fileArg(), r.ignoreArg(), n))
	}
	_, err := fmt.Fprintln(r.stdout, strings.Join(lines, "\n"))
	return err
}

// verdict says what was checked, and counts what was found.
func verdict(result *preflightJSON, ignored []string) string {
	count := map[preflight.Severity]int{}
	for _, f := range result.Findings {
		count[f.Severity]++
	}
	checks := slices.DeleteFunc(preflight.Names(), func(name string) bool { return slices.Contains(ignored, name) })
	text := fmt.Sprintf("%s on %s: ", plan.Count(len(checks), "check"), plan.Count(len(result.Checked), "machine"))
	if len(result.Findings) == 0 {
		text += "nothing found"
	} else {
		text += fmt.Sprintf("%s, %s, %d for information", plan.Count(count[preflight.Error], "error"), plan.Count(count[preflight.Warning], "warning"),
			count[preflight.Info])
	}
	if n := len(result.Unread); n > 0 {
		text += fmt.Sprintf("; %s could not be checked", plan.Count(n, "machine"))
	}
	return text + "."
}
