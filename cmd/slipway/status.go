package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/observe"
	"slipway.dev/slipway/provision/rotate"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

func newStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the health of machines, nodes, etcd and certificates",
		Long: `Show whether the cluster is healthy, and if not, why: machines, nodes, units, etcd, the API, DNS, and nodes that are not
in the spec. It also shows the next certificate expiry and a rotation in progress. Nothing is changed.

Exit codes:
  0  the cluster is healthy
  1  it is not, it does not exist yet, or it could not be checked
  3  the spec is invalid`,
		Example: `  slipway status
  slipway status >/dev/null || echo "look at it"
  slipway status --output json | jq -r '.reasons[] | "\(.machine): \(.text)"'
  slipway status --output json | jq '.machines[] | select(.node.ready | not)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// status changes nothing and takes no lock: it can run during an apply.
func (a *app) status(ctx context.Context) error {
	c, err := a.open(ctx)
	if err != nil {
		return err
	}
	return a.showStatus(ctx, c)
}

// showStatus queries and prints. A cluster that is not healthy is exit code 1.
func (a *app) showStatus(ctx context.Context, c *cluster) error {
	s, infra, err := a.statusOf(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil: // what did not answer may have been healthy
		return context.Cause(ctx)
	case a.output == "json":
		err = a.printJSON(s)
	case !s.Exists:
		err = a.printNoCluster(c, infra)
	default:
		err = printStatus(a.stdout, s, time.Now(), a.fileArg())
	}
	if err == nil && !s.Healthy {
		return &exitError{code: exitFailed}
	}
	return err
}

// statusOf queries the health of the cluster. Before the first apply the status is that of the
// machines.
func (a *app) statusOf(ctx context.Context, c *cluster) (*observe.Status, *spec.Infrastructure, error) {
	pki, err := c.readPKI(ctx)
	if err != nil && !errors.As(err, new(*notAppliedError)) {
		return nil, nil, err
	}
	record := &provision.Record{} // without a state there is nothing to compare
	store, err := c.recall(ctx)
	if err := errors.Join(err, closeStore(store)); err != nil {
		return nil, nil, err
	}
	if store != nil {
		record = c.record
	}
	infra, err := c.provider.Find(ctx)
	if err != nil {
		return nil, nil, err
	}
	in := stack.Input{Cluster: c.spec, Machines: infra.Machines, Endpoint: stack.ExternalEndpoint(c.spec, infra), PKI: pki, BeenUp: record.Up != nil}
	if record.Known {
		in.UID = record.UID
	}
	hosts, closeAll, unreachable := a.dialRunning(ctx, infra)
	defer closeAll()
	return observe.GetStatus(ctx, in, infra, hosts, unreachable), infra, nil
}

// printNoCluster says that no part of the cluster exists, where slipway looked, and how to create
// it.
func (a *app) printNoCluster(c *cluster, infra *spec.Infrastructure) error {
	_, err := fmt.Fprintf(a.stdout, "There is no cluster %s yet: no machine of it, and no state in %s.\n"+
		"Run `slipway apply%s` to create it. If it was created before, check that spec.state and SLIPWAY_STATE_DIR are the same as then.\n",
		c.spec.Metadata.Name, c.state, a.fileArg())
	if err == nil && len(infra.Foreign) > 0 {
		_, err = fmt.Fprintf(a.stdout, "There are resources of another cluster with this name%s\n", foreignHint(infra.Foreign))
	}
	return err
}

// fileArg is --file as an argument for another command on the same cluster; empty for the default.
func (a *app) fileArg() string {
	if a.file == defaultFile {
		return ""
	}
	return " -f " + a.file
}

// dialRunning connects to machines that should answer; a short timeout is enough, since none is
// booting.
func (a *app) dialRunning(ctx context.Context, infra *spec.Infrastructure) (map[string]host.Host, func(), map[string]error) {
	running := slices.DeleteFunc(slices.Clone(infra.Machines), func(m spec.Machine) bool { return infra.States[m.Name] != spec.MachineRunning })
	return a.wayIn(5*time.Second).DialAll(ctx, running)
}

// printStatus prints for people; fileArg is for the commands that it suggests.
func printStatus(out io.Writer, s *observe.Status, now time.Time, fileArg string) error {
	health := "healthy"
	if !s.Healthy {
		health = "NOT healthy"
	}
	api := "API"
	if s.Endpoint != "" {
		api += " https://" + s.Endpoint
	}
	_, _ = fmt.Fprintf(out, "Cluster %s is %s: Kubernetes %s, %s %s\n", s.Cluster, health, s.KubernetesVersion, api, s.API)
	if s.UID != "" {
		_, _ = fmt.Fprintf(out, "UID %s\n", s.UID)
	}
	_, _ = fmt.Fprintln(out)
	if err := printMachines(out, s.Machines); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	if c := s.Certificates; c.Nearest != "" {
		_, _ = fmt.Fprintf(out, "%d certificates in the state; the first to expire is %s, on %s (%d days)\n",
			c.Count, c.Nearest, c.NotAfter.Format(time.DateOnly), int(c.NotAfter.Sub(now).Hours()/24))
	}
	if len(s.Reasons) > 0 {
		_, _ = fmt.Fprintln(out, "Not healthy, since")
		for _, r := range s.Reasons {
			_, _ = fmt.Fprintf(out, "  %s\n", r)
		}
		_, _ = fmt.Fprintf(out, "`slipway plan%s` shows what `slipway apply%s` would change.\n", fileArg, fileArg)
	}
	for _, m := range s.Machines {
		if m.Node != nil && len(m.Node.Taints) > 0 {
			_, _ = fmt.Fprintf(out, "%s: has taints that are not in the spec: %s\n", m.Name, strings.Join(m.Node.Taints, ", "))
		}
	}
	if s.Rotation != nil {
		_, _ = fmt.Fprintln(out, rotate.Progress(s.Rotation))
	}
	return nil
}

// printMachines prints one line per machine; "-" is unknown.
func printMachines(out io.Writer, machines []observe.MachineStatus) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "MACHINE\tROLE\tADDRESS\tSTATE\tNODE\tVERSION\tUNITS\tETCD")
	for _, m := range machines {
		node, version, address, units := "-", "-", "-", "-"
		if m.Address.IsValid() {
			address = m.Address.String()
		}
		if m.Node != nil {
			node, version = "Ready", m.Node.Version
			if !m.Node.Ready {
				node = "NotReady"
			}
		}
		if n := len(m.Units); n > 0 {
			units = fmt.Sprintf("%d/%d", n-len(m.UnitsDown()), n)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Role, address, m.State, node, version, units, etcdColumn(m.Etcd))
	}
	return table.Flush()
}

func etcdColumn(e *observe.EtcdStatus) string {
	if e == nil {
		return "-"
	}
	role := "follower"
	switch {
	case len(e.Alarms) > 0:
		role = "alarm " + strings.Join(e.Alarms, ", ")
	case !e.Healthy:
		return "unhealthy"
	case e.Leader:
		role = "leader"
	case e.Learner:
		role = "learner"
	}
	size := fmt.Sprintf("%s, %.1f MB", role, float64(e.DBSize)/1e6)
	if e.Quota > 0 {
		size += fmt.Sprintf(" of %.1f GB", float64(e.Quota)/1e9)
	}
	return size
}
