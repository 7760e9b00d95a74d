package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/spec"
)

func newStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show machines, nodes, units, etcd, the nearest expiry of a certificate and a rotation",
		Example: `  slipway status
  slipway status --output json | jq '.machines[] | select(.node.ready | not)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// status changes nothing and takes no lock: it may be asked while an apply runs.
func (a *app) status(ctx context.Context) error {
	c, err := a.open()
	if err != nil {
		return err
	}
	// Before the first apply there is a status, too: that of machines.
	pki, err := c.readPKI(ctx)
	if err != nil && !errors.As(err, new(*notAppliedError)) {
		return err
	}
	switch store, err := c.readStore(ctx); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := errors.Join(c.identify(ctx, store), store.Close()); err != nil {
			return err
		}
	}
	infra, err := c.provider.Find(ctx)
	if err != nil {
		return err
	}
	uid := ""
	if c.recorded {
		uid = c.identity.UID
	}
	in := provision.Input{Cluster: c.spec, UID: uid, Machines: infra.Machines, Endpoint: endpoint(c.spec, infra), PKI: pki}
	hosts, unreachable := dialRunning(ctx, infra)
	defer func() {
		for _, h := range hosts {
			_ = h.Close()
		}
	}()
	s := provision.GetStatus(ctx, in, infra, hosts, unreachable)
	if a.output == "json" {
		return a.printJSON(s)
	}
	return printStatus(a.stdout, s, time.Now())
}

// dialRunning connects to what should answer; a short wait is enough, for nothing is booting here.
func dialRunning(ctx context.Context, infra *spec.Infrastructure) (map[string]host.Host, map[string]error) {
	hosts, errs := map[string]host.Host{}, map[string]error{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, m := range infra.Machines {
		if infra.States[m.Name] != spec.MachineRunning {
			continue
		}
		wait.Go(func() {
			h, err := dial(ctx, m, 5*time.Second)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[m.Name] = err
				return
			}
			hosts[m.Name] = h
		})
	}
	wait.Wait()
	return hosts, errs
}

func printStatus(out io.Writer, s *provision.Status, now time.Time) error {
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
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "MACHINE\tROLE\tADDRESS\tSTATE\tNODE\tVERSION\tUNITS\tETCD")
	var notes []string
	for _, m := range s.Machines {
		node, version, address := "-", "-", "-"
		if m.Address.IsValid() {
			address = m.Address.String()
		}
		if m.Node != nil {
			node, version = "Ready", m.Node.Version
			if !m.Node.Ready {
				node = "NotReady"
				notes = append(notes, m.Name+": "+m.Node.Reason)
			}
			for _, trouble := range m.Node.Trouble {
				notes = append(notes, m.Name+": "+trouble)
			}
			if len(m.Node.Taints) > 0 {
				notes = append(notes, m.Name+": has taints that are not of the spec: "+strings.Join(m.Node.Taints, ", "))
			}
		}
		units := fmt.Sprintf("%d/%d", len(m.Units)-len(m.UnitsDown()), len(m.Units))
		if down := m.UnitsDown(); len(down) > 0 {
			notes = append(notes, m.Name+": not active: "+strings.Join(down, ", "))
		}
		if m.Error != "" {
			notes = append(notes, m.Name+": "+m.Error)
		}
		if m.State != spec.MachineRunning {
			notes = append(notes, m.Name+": its machine is "+m.State)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Role, address, m.State, node, version, units, etcdColumn(m.Etcd))
		if m.Etcd != nil && m.Etcd.Error != "" {
			notes = append(notes, m.Name+": etcd: "+m.Etcd.Error)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	if c := s.Certificates; c.Nearest != "" {
		_, _ = fmt.Fprintf(out, "%d certificates; the first to end is %s, on %s (%d days)\n",
			c.Count, c.Nearest, c.NotAfter.Format(time.DateOnly), int(c.NotAfter.Sub(now).Hours()/24))
	}
	if s.DNS != "ok" {
		notes = append(notes, "DNS: "+s.DNS)
	}
	if s.Rotation != nil {
		notes = append(notes, underWay(s.Rotation))
	}
	for _, n := range notes {
		_, _ = fmt.Fprintln(out, n)
	}
	return nil
}

func etcdColumn(e *provision.EtcdStatus) string {
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
