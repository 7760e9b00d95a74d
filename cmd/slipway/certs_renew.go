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
		Short: "Renew certificates and wait until they are in use",
		Long: `Renew certificates, with new keys and the current CAs: all of them, or those that are named. A name is one from
` + "`slipway certs status`" + `; without its @node it means those of all nodes, and * matches anything.

Every apply renews certificates that are due. Nothing is restarted: components reload the files while they run. Sessions
of kubectl exec, port-forward and logs --follow end once, when API servers start to use their new client certificate.
Control planes are changed one after another, and the next is changed once the endpoints of the previous one serve the new
certificates. At the end, renew waits until clients present theirs: they check every 5 minutes (client-go), and until then
the old certificates stay valid. With --wait=served it ends before that and says what is not proven;
` + "`slipway certs status`" + ` then shows which clients do not present their new certificates yet. API servers, as clients of
etcd, are not waited for: they present the new certificate on new connections, and keep existing ones.

If renew is interrupted or fails, issued certificates are kept, and ` + "`slipway apply`" + ` continues; another renew would renew
all of them again.

Certificates of an external CA are renewed by ` + "`slipway certs csr`" + ` with their name, ` + "`slipway certs import`" + ` and
` + "`slipway apply`" + `. To name one here is an error; without names they are skipped, and listed.`,
		Example: `  slipway certs renew                      # everything
  slipway certs renew apiserver            # on every control plane
  slipway certs renew 'etcd/*'             # everything that etcd's CA has signed
  slipway certs renew kubelet@demo-worker-1
  slipway certs renew --wait=served        # do not wait for clients, which check every 5 minutes
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
	cmd.Flags().StringVar(&wait, "wait", wait,
		"`WHAT` to wait for: served (servers serve the new certificates) or presented (clients present them too, up to 5 minutes more)")
	completeWords(cmd, "wait", func() []string {
		return []string{waitPresented + "\tby clients, which check every 5 minutes", waitServed + "\tby servers, after seconds"}
	})
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "the old name of --wait=served")
	_ = cmd.Flags().MarkHidden("no-wait")
	run.addParallelism(cmd)
	return cmd
}

// What a renewal waits for at the end. Every schedule has a gate until certificates are served.
const (
	waitPresented = "presented"
	waitServed    = "served"
)

// renewRun is an apply that also renews certificates that still fit.
type renewRun struct {
	applyRun
	clients []string // hosts with clients whose certificates are renewed
}

// forecast describes how long a renewal takes.
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

// unproven names what a renewal has not waited for; "" if it has waited for everything.
func (r *renewRun) unproven() string {
	if len(r.clients) == 0 || r.Prove == plan.ProveClients {
		return ""
	}
	return fmt.Sprintf("Not proven: that clients on %s present their new certificates. They check every 5 minutes; `slipway certs status%s` shows "+
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
		r.ForgetMachineChanges() // no machine is created or started for it: those that do not run are not changed
		if err := r.journaled(ctx, "certs renew", ""); err != nil {
			return err
		}
		if text := r.unproven(); text != "" {
			_, _ = fmt.Fprintln(r.stderr, text)
		}
		return nil
	})
}

// complete returns the names of certificates.
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
