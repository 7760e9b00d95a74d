package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/dag"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/journal"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/preflight"
)

// fixTimeout is how long a command may take: packages are fetched from mirrors, which may hang.
const fixTimeout = 15 * time.Minute

// mend shows the commands of the findings for which that is safe, asks, and runs them: those of a host
// one after another, as steps of a run in the journal. It reports whether anything was run.
func (r *preflightRun) mend(ctx context.Context, findings []preflight.Finding, hosts map[string]host.Host) (ran bool, err error) {
	fixes := slices.DeleteFunc(fixable(findings), func(f preflight.Finding) bool { return hosts[f.Host] == nil })
	if len(fixes) == 0 {
		return false, nil
	}
	for _, f := range fixes {
		_, _ = fmt.Fprintf(r.stderr, "%s: %s: %s\n  %s\n", f.Host, f.Check, f.Found, f.Remedy)
	}
	if err := r.confirm(ctx, "Run "+plan.Count(len(fixes), "command")+" on "+plan.Count(hostsOf(fixes), "machine")+"?"); err != nil {
		return false, err
	}
	store, err := r.openStore(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r.Store = store
	return true, r.recorded(ctx, "preflight --fix", "", func(ctx context.Context) error {
		steps, shown := fixSteps(fixes, hosts)
		r.progress.Steps(len(shown))
		r.progress.recorder.Plan(nil, shown)
		r.progress.Phase("fix")
		return dag.Run(ctx, steps, r.Parallelism, r.progress.Event)
	})
}

// fixable returns the findings whose commands slipway may run.
func fixable(findings []preflight.Finding) (fixes []preflight.Finding) {
	for _, f := range findings {
		if f.Fix {
			fixes = append(fixes, f)
		}
	}
	return fixes
}

// hostsOf counts the hosts of findings.
func hostsOf(findings []preflight.Finding) int {
	names := map[string]bool{}
	for _, f := range findings {
		names[f.Host] = true
	}
	return len(names)
}

// fixSteps returns a step for each finding, and how the journal has it.
func fixSteps(fixes []preflight.Finding, hosts map[string]host.Host) (dag.Plan, []journal.Step) {
	var steps dag.Plan
	var shown []journal.Step
	last := map[string]string{} // the last step by host
	for _, f := range fixes {
		name := fmt.Sprintf("%s: fix %s", f.Host, f.Check)
		for k := 2; stepNamed(shown, name); k++ {
			name = fmt.Sprintf("%s: fix %s (%d)", f.Host, f.Check, k)
		}
		var deps []string
		if before := last[f.Host]; before != "" {
			deps = []string{before}
		}
		last[f.Host] = name
		steps.Steps = append(steps.Steps, dag.Step{Name: name, Host: f.Host, Deps: deps, Do: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, fixTimeout, fmt.Errorf("it has not ended for %s", fixTimeout))
			defer cancel()
			_, err := hosts[f.Host].Run(ctx, host.Cmd{Script: "export DEBIAN_FRONTEND=noninteractive\n" + f.Remedy, Exclusive: true})
			if err != nil {
				return fmt.Errorf("run %q: %w", f.Remedy, err)
			}
			return nil
		}})
		shown = append(shown, journal.Step{Name: name, Host: f.Host, Kind: journal.Change, Deps: deps, Changes: []string{strings.TrimSpace(f.Remedy)}})
	}
	return steps, shown
}

func stepNamed(steps []journal.Step, name string) bool {
	for _, s := range steps {
		if s.Name == name {
			return true
		}
	}
	return false
}
