package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

func newCertsRenewCmd(a *app) *cobra.Command {
	run := &renewRun{applyRun: applyRun{work: work{app: a}, resume: "apply"}}
	var dryRun, noWait bool
	cmd := &cobra.Command{
		Use:   "renew [NAME]...",
		Short: "Issue certificates anew, and wait until they are in use",
		Long: `Issue certificates anew, with new keys, by the authorities that there are: all of them, or those that are named. A
name is one of ` + "`slipway certs status`" + `; without its @node it means all nodes', and * stands for anything.

What is due is renewed by every apply without being asked. Nothing is restarted: everything takes in new files while it
runs. Control planes follow one another, and the next is touched once the endpoints of the one before show the new
certificates. In the end renew waits until clients show theirs: they look every 5 minutes (client-go), and until then
the certificates of before go on being good. API servers, as clients of etcd, are not waited for: they show the new one
when they connect, and keep the connections that they have.

Interrupted or failed, what was issued is kept, and ` + "`slipway apply`" + ` goes on: renew again would issue all anew.

Where the authority's key is elsewhere, a certificate is renewed by ` + "`slipway certs csr`" + ` with its name, ` + "`slipway certs import`" + ` and
` + "`slipway apply`" + `. To name one here is an error; without names these are left out, and named.`,
		Example: `  slipway certs renew                      # everything
  slipway certs renew apiserver            # of every control plane
  slipway certs renew 'etcd/*'             # what etcd's authority has signed
  slipway certs renew kubelet@demo-worker-1
  slipway certs renew --dry-run            # only show the plan`,
		Annotations:       map[string]string{resumes: "slipway apply"},
		ValidArgsFunction: run.complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			run.Renew = names
			if len(names) == 0 {
				run.Renew = keys.EveryLeaf
			}
			if !noWait {
				run.Prove = plan.ProveClients
			}
			return run.start(cmd.Context(), dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and change nothing")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until clients show their new certificates, up to 5 minutes")
	run.addParallelism(cmd)
	return cmd
}

// renewRun is an apply with certificates that are issued although they fit.
type renewRun struct{ applyRun }

func (r *renewRun) start(ctx context.Context, dryRun bool) error {
	if dryRun {
		p := planRun{work: r.work}
		p.Prove = r.Prove
		return p.plan(ctx)
	}
	return r.locked(ctx, func() error {
		r.ForgetMachineChanges() // no machine is made or started for it: those that do not run are left alone
		return r.journaled(ctx, "certs renew", "")
	})
}

// complete offers the names of certificates.
func (r *renewRun) complete(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, infra, err := r.find(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, q := range certs.Table(stack.CertInputs(c.spec, infra.Machines, infra.ExtraSANs)) {
		if q.Kind == certs.Leaf {
			names = append(names, q.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
