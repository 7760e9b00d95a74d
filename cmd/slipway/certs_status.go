package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// prometheusOutput is the value of --output that only this command has.
const prometheusOutput = "prometheus"

// certsStatusOptions are the flags of certs status.
type certsStatusOptions struct {
	warn, crit   string
	warned, crat bool // whether they were set
}

func newCertsStatusCmd(a *app) *cobra.Command {
	var o certsStatusOptions
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Show every certificate and where it is used, the most urgent first",
		Long: `Show every certificate of the cluster and where it is used: served certificates, files and kubeconfigs on the hosts,
the trust of webhooks and other objects of the API, and the state. A served certificate is compared with its file, both
with the state, and that with the spec: what ` + "`slipway apply`" + ` would renew, and why. Status changes nothing, and shows
what it cannot read. It works while the API is down, and when certificates have expired: it needs only SSH.

A NAME is a node's, or a certificate's ("apiserver", "apiserver@demo-cp-1"); without one all certificates are shown.
A certificate that is the same in many places is one line; with -v each place has its own.

Exit codes: without --warn and --crit, 0 whatever is found. With either, those of a monitoring plugin:
  0  ok
  1  warning: one expires within --warn, or differs from its file, the state or the spec
  2  critical: one expires within --crit, has expired, or is not valid yet
  3  unknown: one, or a host, or the API could not be read, and the others are ok; or the command failed`,
		Example: `  slipway certs status
  slipway certs status demo-cp-1
  slipway certs status --warn 30d --crit 7d         # as a check for Nagios and similar systems
  slipway certs status --output json | jq '.certificates[] | select(.level != "ok")'
  slipway certs status --output prometheus >slipway-certificates.prom`,
		Annotations: map[string]string{moreOutputs: prometheusOutput},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			c, err := spec.Load(a.file)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return (&cluster{spec: c}).names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.warned, o.crat = cmd.Flags().Changed("warn"), cmd.Flags().Changed("crit")
			worst, err := a.certsStatus(cmd.Context(), args, o)
			switch {
			case !o.warned && !o.crat:
				return err
			case err != nil:
				return &exitError{code: int(certs.Unknown), err: err}
			case worst != certs.OK:
				return &exitError{code: int(worst)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.warn, "warn", "30d", "warn of certificates that expire within `TIME` (30d, 1y), and exit with 1")
	cmd.Flags().StringVar(&o.crit, "crit", "7d", "certificates that expire within `TIME` are critical: exit with 2")
	return cmd
}

// thresholds parses --warn and --crit. If only one was set, it limits the other.
func (o certsStatusOptions) thresholds() (warn, crit time.Duration, err error) {
	if warn, err = spec.ParseDuration(o.warn); err != nil {
		return 0, 0, fmt.Errorf("--warn: %w: write years, days or hours, such as 30d", err)
	}
	if crit, err = spec.ParseDuration(o.crit); err != nil {
		return 0, 0, fmt.Errorf("--crit: %w: write years, days or hours, such as 7d", err)
	}
	switch {
	case crit <= warn:
	case o.warned && o.crat:
		return 0, 0, fmt.Errorf("--crit %s is longer than --warn %s, which would never be a warning: give a longer --warn", o.crit, o.warn)
	case o.warned:
		crit = warn
	default:
		warn = crit
	}
	return warn, crit, nil
}

// certsStatus changes nothing and takes no lock. It returns the worst level that it shows.
func (a *app) certsStatus(ctx context.Context, filter []string, o certsStatusOptions) (certs.Level, error) {
	warn, crit, err := o.thresholds()
	if err != nil {
		return 0, err
	}
	c, err := a.open(ctx)
	if err != nil {
		return 0, err
	}
	uses, err := a.certificates(ctx, c)
	if err != nil {
		return 0, err
	}
	if uses, err = filterUses(uses, filter); err != nil {
		return 0, err
	}
	now := time.Now()
	worst := certs.Judge(uses, warn, crit, now)
	certs.Sort(uses)
	return worst, a.printCerts(c.spec.Metadata.Name, uses, worst, now)
}

// certificates reads all of them. Machines that do not run count as unread.
func (a *app) certificates(ctx context.Context, c *cluster) ([]certs.Use, error) {
	kept, err := c.readStored(ctx)
	if err != nil {
		return nil, err
	}
	infra, err := c.provider.Find(ctx)
	if err != nil {
		return nil, err
	}
	pki := kept.PKI()
	pki.Requests = certs.Table(stack.CertInputs(c.spec, infra.Machines, infra.ExtraSANs))
	hosts, closeAll, unreachable := a.dialRunning(ctx, infra)
	defer closeAll()
	for _, m := range infra.Machines {
		if s := infra.States[m.Name]; s != spec.MachineRunning {
			unreachable[m.Name] = fmt.Errorf("the machine is %s", s)
		}
	}
	for _, name := range c.missing(infra) {
		unreachable[name] = fmt.Errorf("there is no machine %s", name)
	}
	in := stack.Input{Cluster: c.spec, Machines: infra.Machines, Endpoint: stack.ExternalEndpoint(c.spec, infra), PKI: pki}
	return a.againstSpec(ctx, c, kept, infra, observe.Inventory(ctx, in, hosts, unreachable)), nil
}

// specTimeout bounds the making of keys, in memory, if the spec needs many.
const specTimeout = 30 * time.Second

// againstSpec marks the used certificates that differ from the spec. If that cannot be determined,
// an entry says why.
func (a *app) againstSpec(ctx context.Context, c *cluster, kept *keys.Stored, infra *spec.Infrastructure, uses []certs.Use) []certs.Use {
	changes, err := a.unapplied(ctx, c, kept, infra)
	if err != nil {
		return append(uses, certs.Use{Place: certs.UnreadSpec, Location: a.file, Error: "the spec's certificates are unknown: " + err.Error()})
	}
	certs.AgainstSpec(uses, kept.PKI().Material, changes)
	return uses
}

// unapplied returns what the spec requires of certificates and the state does not have: what apply
// would issue, what an external CA has to sign first, and what a rotation would replace. It is
// computed in memory.
func (a *app) unapplied(ctx context.Context, c *cluster, kept *keys.Stored, infra *spec.Infrastructure) ([]certs.Change, error) {
	if missing := c.missing(infra); len(missing) > 0 { // certificates also contain the names of other machines
		return nil, fmt.Errorf("there is no machine yet: %s", list(missing))
	}
	if mistakes := a.readAuthorities(ctx, c.spec); len(mistakes) > 0 {
		return nil, fmt.Errorf("%s %s", mistakes[0].Field, mistakes[0].Message)
	}
	ctx, cancel := context.WithTimeout(ctx, specTimeout)
	defer cancel()
	s, err := keys.Ensure(ctx, kept, nil, c.spec, infra, a.own)
	if err != nil && !errors.As(err, new(*certs.PendingError)) {
		return nil, err
	}
	changes := slices.Concat(s.Issued, s.PKI.Drift)
	for _, p := range s.PKI.Pending {
		changes = append(changes, p.Change)
	}
	return changes, nil
}

// filterUses keeps what is on a given node, or has a given name. A name that matches nothing is an
// error.
func filterUses(uses []certs.Use, names []string) ([]certs.Use, error) {
	if len(names) == 0 {
		return uses, nil
	}
	nodes := map[string]bool{}
	for _, u := range uses {
		nodes[u.Host] = true
	}
	has := func(u certs.Use, name string) bool {
		item, _, _ := strings.Cut(u.Name, "@")
		return u.Host == name || u.Name == name || item == name
	}
	// A certificate of that name may be where nothing could be read, so unread places are shown.
	mayHave := func(u certs.Use, name string) bool {
		_, on, _ := strings.Cut(name, "@")
		unread := u.Place == certs.UnreadHost || u.Place == certs.UnreadAPI || u.Place == certs.UnreadSpec
		return unread && !nodes[name] && (on == "" || on == u.Host)
	}
	for _, name := range names {
		if !slices.ContainsFunc(uses, func(u certs.Use) bool { return has(u, name) }) {
			return nil, fmt.Errorf("no node and no certificate is called %q; `slipway certs status` shows all names", name)
		}
	}
	return slices.DeleteFunc(uses, func(u certs.Use) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return has(u, name) || mayHave(u, name) })
	}), nil
}

// certsReport is the JSON of certs status. It is stable.
type certsReport struct {
	Cluster string `json:"cluster"`
	// Level is the worst of all levels.
	Level        certs.Level `json:"level"`
	Certificates []certs.Use `json:"certificates"`
}

func (a *app) printCerts(cluster string, uses []certs.Use, worst certs.Level, now time.Time) error {
	switch a.output {
	case "json":
		return a.printJSON(certsReport{cluster, worst, uses})
	case prometheusOutput:
		return certs.WriteMetrics(a.stdout, uses)
	}
	v := certsView{out: unescaped(a.stdout), now: now, all: a.verbose, color: isTerminal(a.stdout) && os.Getenv("NO_COLOR") == ""}
	return v.print(cluster, uses)
}
