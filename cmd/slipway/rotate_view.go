package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/converge"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/rotate"
)

// show prints an overview: as JSON for programs that only want to know, otherwise for people.
func (r *rotateRun) show(o *rotate.Overview) error {
	if r.dryRun && r.output == "json" {
		return r.printJSON(o)
	}
	return printOverview(r.stderr, o)
}

// printOverview writes an overview for people: stages, workloads, kubeconfigs.
func printOverview(out io.Writer, o *rotate.Overview) error {
	v := rotationView{out: out}
	way := "rotation"
	if o.Back {
		way = "rollback of the rotation"
	}
	v.printf("Cluster %s: %s of %s\n\n", o.Cluster, way, strings.Join(o.Names, ", "))
	v.stages(o)
	if o.Rolls {
		v.workloads(o)
		v.tokenSecrets(o)
	}
	if !o.Begins && len(o.Unmanaged) > 0 {
		v.printf("Not in %s, and without access to the API server from stage issue on; the rotation stops before that stage:\n", o.File)
		for _, n := range o.Unmanaged {
			v.printf("  %s\n", n)
		}
		v.printf("\n")
	}
	if o.Users {
		v.kubeconfigs(o)
	}
	return v.err
}

// rotationView prints the parts of an overview.
type rotationView struct {
	out io.Writer
	err error // the first of printing
}

func (v *rotationView) printf(format string, args ...any) {
	if v.err == nil {
		_, v.err = fmt.Fprintf(v.out, format, args...)
	}
}

// table prints rows whose columns are apart by tabs, and an empty line.
func (v *rotationView) table(rows []string) {
	table := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(table, row)
	}
	if err := table.Flush(); err != nil && v.err == nil {
		v.err = err
	}
	v.printf("\n")
}

func (v *rotationView) stages(o *rotate.Overview) {
	rows := []string{"STAGE\tWHAT\tRESTARTS"}
	for _, s := range o.Stages {
		restarts := "nothing"
		if len(s.Restarts) > 0 {
			restarts = strings.Join(s.Restarts, ", ")
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", s.Stage, s.What, restarts))
	}
	v.table(rows)
	if len(o.Expired) > 0 {
		v.printf("Expired: %s. All certificates that they issued are replaced at once, on all hosts.\n", strings.Join(o.Expired, ", "))
		if o.Under != "" {
			v.printf("The %s is running: its items are replaced with them, at once, too.\n", o.Under)
		}
		v.printf("\n")
	}
	for _, s := range o.Stages {
		if s.Signatures > 0 {
			v.printf("To be signed by an external CA before stage %s can continue: %s.\n\n", s.Stage, plan.Count(s.Signatures, "certificate"))
		}
	}
	if o.OtherChanges > 0 {
		v.printf("Besides the rotation: %s, which `slipway apply` has to make first; see `slipway plan`.\n\n", plan.Count(o.OtherChanges, "change"))
	}
}

func (v *rotationView) workloads(o *rotate.Overview) {
	switch {
	case o.APIError != "":
		v.printf("The workloads that stage rollout replaces are unknown so far, since the API cannot be queried (%s).\n"+
			"Without --yes you are asked again once they are known; --pause-after leaves time to check.\n\n", o.APIError)
		return
	case len(o.Workloads) == 0:
		v.printf("Stage rollout finds no workload that it would replace.\n\n")
		return
	}
	v.printf("Workloads in stage rollout, which read the CA or a token:\n\n")
	rows := []string{"WORKLOAD\tPODS\tHOW"}
	for _, w := range o.Workloads {
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s", w.Workload, len(w.Pods), w.How))
	}
	v.table(rows)
	if !o.Begins && len(o.Blocked) > 0 {
		v.printf("Stage rollout cannot complete in this state (or replace workloads yourself, with --no-rollout):\n  %s\n\n", strings.Join(o.Blocked, "\n  "))
	}
}

// tokenSecrets are shown in advance, since users have to act on them.
func (v *rotationView) tokenSecrets(o *rotate.Overview) {
	if len(o.TokenSecrets) == 0 {
		return
	}
	tokens := slices.ContainsFunc(o.Stages, func(s rotate.Stage) bool { return s.Stage == certs.Tokens })
	switch {
	case o.SkipUnmanaged:
		v.printf("The tokens in these Secrets are not waited for (--leave-unmanaged), and become invalid at stage drop")
	case tokens:
		v.printf("Stage rollout waits, for a day, until you have renewed the tokens in these Secrets; --pause-after tokens leaves time\n" +
			"to do it before pods that use them are replaced")
	default:
		v.printf("Stage rollout waits, for a day, until you have renewed the tokens in these Secrets")
	}
	v.printf(":\n\n  %s\n\nTo renew one, run `%s`.\n\n", strings.Join(o.TokenSecrets, "\n  "), converge.RenewToken)
}

func (v *rotationView) kubeconfigs(o *rotate.Overview) {
	if len(o.Kubeconfigs) == 0 {
		v.printf("No kubeconfig is recorded that would stop working.\n\n")
		return
	}
	lasting := certs.Issue
	if o.Back {
		lasting = certs.Return
	}
	v.printf("These kubeconfigs stop working. Those that `slipway kubeconfig` issues after stage %s stay valid; --pause-after leaves time for that:\n\n", lasting)
	rows := []string{"USER\tGROUPS\tISSUED\tEXPIRES\tSTOPS WORKING"}
	for _, l := range o.Kubeconfigs {
		groups := "-"
		if len(l.Groups) > 0 {
			groups = strings.Join(l.Groups, ",")
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", l.Name, groups,
			l.Issued.Local().Format(time.DateOnly), l.NotAfter.Local().Format(time.DateOnly), whenLost(l)))
	}
	v.table(rows)
}

// whenLost describes from which stages on a kubeconfig does not work, and why.
func whenLost(l rotate.LostKubeconfig) string {
	refused := fmt.Sprintf("stage %s: its certificate is refused", l.RefusedFrom)
	if l.DistrustsFrom == "" {
		return refused
	}
	return fmt.Sprintf("stage %s: it does not trust the servers; %s", l.DistrustsFrom, refused)
}
