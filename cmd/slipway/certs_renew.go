package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

func newCertsRenewCmd(a *app) *cobra.Command {
	run := &renewRun{applyRun: applyRun{work: work{app: a}, resume: "apply"}}
	var dryRun, noWait bool
	wait := waitPresented
	cmd := &cobra.Command{
		Use:   "renew [NAME]...",
		Short: "Issue certificates anew, and wait until they are in use",
		Long: `Issue certificates anew, with new keys, by the authorities that there are: all of them, or those that are named. A
name is one of ` + "`slipway certs status`" + `; without its @node it means all nodes', and * stands for anything.

What is due is renewed by every apply without being asked. Nothing is restarted: everything takes in new files while it
runs. Control planes follow one another, and the next is touched once the endpoints of the one before show the new
certificates. In the end renew waits until clients present theirs: they look every 5 minutes (client-go), and until then
the certificates of before go on being good. With --wait=served it ends before that and says what is not proven;
` + "`slipway certs status`" + ` then tells which clients do not present their new certificates yet. API servers, as clients of
etcd, are not waited for: they present the new one when they connect, and keep the connections that they have.

Interrupted or failed, what was issued is kept, and ` + "`slipway apply`" + ` goes on: renew again would issue all anew.

Where the authority's key is elsewhere, a certificate is renewed by ` + "`slipway certs csr`" + ` with its name, ` + "`slipway certs import`" + ` and
` + "`slipway apply`" + `. To name one here is an error; without names these are left out, and named.`,
		Example: `  slipway certs renew                      # everything
  slipway certs renew apiserver            # of every control plane
  slipway certs renew 'etcd/*'             # what etcd's authority has signed
  slipway certs renew kubelet@demo-worker-1
  slipway certs renew --wait=served        # do not wait for clients, which look every 5 minutes
  slipway certs renew --dry-run            # only show the plan`,
		Annotations:       map[string]string{resumes: "slipway apply"},
		ValidArgsFunction: run.complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			run.Renew = names
			if len(names) == 0 {
				run.Renew = keys.EveryLeaf
			}
			if noWait {
				wait = waitServed
			}
			switch wait {
			case waitPresented:
				run.Prove = plan.ProveClients
			case waitServed:
			default:
				return fmt.Errorf("--wait=%s: say %s or %s", wait, waitPresented, waitServed)
			}
			return run.start(cmd.Context(), dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and change nothing")
	cmd.Flags().StringVar(&wait, "wait", wait, "`WHAT` to wait for: new certificates are served by servers, or also presented by clients (up to 5 minutes)")
	completeWords(cmd, "wait", func() []string {
		return []string{waitPresented + "\tby clients, which look every 5 minutes", waitServed + "\tby servers, after seconds"}
	})
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "the same as --wait=served, its name before")
	_ = cmd.Flags().MarkHidden("no-wait")
	run.addParallelism(cmd)
	return cmd
}

// What a renewal waits for in the end. What is served is a gate of every schedule.
const (
	waitPresented = "presented"
	waitServed    = "served"
)

// renewRun is an apply with certificates that are issued although they fit.
type renewRun struct {
	applyRun
	clients []string // hosts with clients whose certificates are renewed
}

// forecast says how long a renewal takes.
func (r *renewRun) forecast(p *plan.Plan) string {
	r.clients = nil
	hosts, changes := byHost(p.Changes)
	for _, name := range hosts {
		if plan.Clients(changes[name]) != "" {
			r.clients = append(r.clients, name)
		}
	}
	const steps = "This takes seconds for each control plane and each batch of workers"
	switch {
	case len(r.clients) == 0:
		return steps + "."
	case r.Prove == plan.ProveClients:
		return steps + ", and then up to 5 minutes until all clients present their new certificates; --wait=served does not wait for them."
	}
	return steps + ". Clients present their new certificates up to 5 minutes later."
}

// unproven says what a renewal has not waited for; nothing if it has waited for all.
func (r *renewRun) unproven() string {
	if len(r.clients) == 0 || r.Prove == plan.ProveClients {
		return ""
	}
	return fmt.Sprintf("Not proven: that clients on %s present their new certificates. They look every 5 minutes; `slipway certs status%s` shows "+
		"which do not present them yet.", list(r.clients), r.fileArg())
}

func (r *renewRun) start(ctx context.Context, dryRun bool) error {
	r.outlook = r.forecast
	if dryRun {
		p := planRun{work: r.work}
		p.Prove = r.Prove
		return p.plan(ctx)
	}
	return r.locked(ctx, func() error {
		r.ForgetMachineChanges() // no machine is made or started for it: those that do not run are left alone
		if err := r.journaled(ctx, "certs renew", ""); err != nil {
			return err
		}
		if text := r.unproven(); text != "" {
			_, _ = fmt.Fprintln(r.stderr, text)
		}
		return nil
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
