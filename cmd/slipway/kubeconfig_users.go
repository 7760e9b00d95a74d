package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/state"
	"slipway.dev/slipway/provision/users"
)

// issue makes a user's kubeconfig. It is recorded before the key is shown: an unrecorded one is
// never delivered.
func (r *kubeconfigRun) issue(ctx context.Context, c *cluster, infra *spec.Infrastructure, pki *certs.PKI) (err error) {
	if err := users.CheckSigner(pki, r.user, r.groups); err != nil {
		return err
	}
	authorities := pki.Bundle(certs.KubernetesCA)
	validity, err := users.UserValidity(r.valid, authorities, time.Now())
	if err != nil {
		return err
	}
	controlPlanes := *infra
	controlPlanes.Machines = slices.DeleteFunc(slices.Clone(infra.Machines), func(m spec.Machine) bool { return m.Role != spec.ControlPlane })
	hosts, closeAll, unreachable := r.dialRunning(ctx, &controlPlanes)
	defer closeAll()
	in := stack.Input{Cluster: c.spec, Machines: controlPlanes.Machines, Endpoint: stack.ExternalEndpoint(c.spec, infra), PKI: pki}
	if err := reachable(&controlPlanes, unreachable); err != nil {
		return err
	}
	store, err := r.waitForStore(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	kept, err := keys.Load(ctx, store) // reread: a run may have changed them meanwhile
	if err != nil {
		return err
	}
	in.PKI = kept.PKI()
	authorities = in.PKI.Chain(certs.KubernetesCA)
	var item certs.Item
	var user users.User
	err = underLock(ctx, store, func(ctx context.Context) error {
		request := users.UserRequest{Name: r.user, Groups: r.groups, Validity: validity, By: operator()}
		if item, user, err = users.IssueUser(ctx, in, hosts, request); err != nil {
			return err
		}
		return recordUser(ctx, store, user)
	})
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", r.user, err)
	}
	access := certs.Access{Cluster: c.spec.Metadata.Name, User: r.user, Server: "https://" + in.Endpoint}
	text, err := certs.KubeconfigEmbedded(access, authorities, item)
	if err != nil {
		return err
	}
	if user.Shorter(validity) {
		_, _ = fmt.Fprintf(r.stderr, "The cluster's signer granted less than the requested %s.\n", inDays(validity))
	}
	_, _ = fmt.Fprintf(r.stderr, "The certificate of %s is valid until %s (%s). Its rights are those of the roles bound to its name and groups.\n",
		r.user, user.NotAfter.Local().Format(time.DateTime), inDays(time.Until(user.NotAfter)))
	return r.deliver(text)
}

// reachable returns an error if no control plane can be reached.
func reachable(controlPlanes *spec.Infrastructure, unreachable map[string]error) error {
	errs := []error{errors.New("no control plane can be reached, and nothing was issued")}
	for _, m := range controlPlanes.Machines {
		switch state := controlPlanes.States[m.Name]; {
		case unreachable[m.Name] != nil:
			errs = append(errs, unreachable[m.Name])
		case state != spec.MachineRunning:
			errs = append(errs, fmt.Errorf("machine %s is %s", m.Name, state))
		default:
			return nil
		}
	}
	return errors.Join(errs...)
}

// lockInterval is how often a lock is tried that another process holds.
const lockInterval = time.Second

// waitForStore opens the state for writing. If a run has locked it, it waits: nothing has been done
// yet.
func (r *kubeconfigRun) waitForStore(ctx context.Context, c *cluster) (*state.Store, error) {
	for said := false; ; said = true {
		store, err := c.openStore(ctx)
		var locked *state.LockedError
		if !errors.As(err, &locked) {
			return store, err
		}
		if !said {
			_, _ = fmt.Fprintf(r.stderr, "Waiting for the state, to record the kubeconfig: %v.\n", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("interrupted; nothing was issued: %w", err)
		case <-time.After(lockInterval):
		}
	}
}

// recordUser adds to the record, unless it is there.
func recordUser(ctx context.Context, store *state.Store, u users.User) error {
	text, err := store.Get(ctx, keys.UsersFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	users, err := users.ReadUsers(text.Reveal())
	if err != nil || users.Has(u) {
		return err
	}
	encoded, err := users.Add(u, time.Now()).Encode()
	if err != nil {
		return err
	}
	return store.Put(ctx, map[string]secret.Bytes{keys.UsersFile: encoded})
}

// recordAdmin records once that a certificate of the admin was issued. A failure does not prevent
// delivery: whoever can read the state has the certificate.
func (r *kubeconfigRun) recordAdmin(ctx context.Context, c *cluster, kept *keys.Stored) {
	record := func() error {
		pki := kept.PKI()
		u, err := users.NewUser(pki.Material[certs.Admin].Cert, pki.Bundle(certs.KubernetesCA), operator(), time.Now())
		if err != nil {
			return err
		}
		if users, err := users.ReadUsers(kept.Users.Reveal()); err != nil || users.Has(u) {
			return err
		}
		store, err := c.openStore(ctx)
		if err != nil {
			return err
		}
		return errors.Join(recordUser(ctx, store, u), store.Close())
	}
	if err := record(); err != nil {
		_, _ = fmt.Fprintf(r.stderr, "Warning: it was not recorded that the admin's kubeconfig was issued: %v\n", err)
	}
}

func newKubeconfigListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List issued kubeconfigs, and how long they are valid",
		Long: `List the kubeconfigs that were printed, written or merged, the oldest first: user, groups, expiry, and the issuing
operator. "not trusted" means that the cluster has replaced the CA. Entries are deleted a year after their expiry. It takes
no lock, and contacts no machine.`,
		Example: `  slipway kubeconfig list
  slipway kubeconfig list --output json | jq '.[] | select(.state == "valid" and .daysLeft < 30)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listKubeconfigs(cmd.Context()) },
	}
}

// listedUser is a kubeconfig in a list. Its JSON is documented in docs/certificates.md.
type listedUser struct {
	users.User
	State    users.UserState `json:"state"`
	DaysLeft int             `json:"daysLeft"`
}

func (a *app) listKubeconfigs(ctx context.Context) error {
	loaded, err := a.loadSpec()
	if err != nil {
		return err
	}
	where, dir, err := a.stateOf(loaded)
	if err != nil {
		return err
	}
	kept, err := (&cluster{spec: loaded, state: where, dir: dir}).readStored(ctx)
	if err != nil {
		return err
	}
	users, err := users.ReadUsers(kept.Users.Reveal())
	if err != nil {
		return err
	}
	now, listed := time.Now(), []listedUser{}
	for _, u := range users {
		state := u.State(kept.PKI().Bundle(certs.KubernetesCA), now)
		listed = append(listed, listedUser{u, state, max(0, int(u.NotAfter.Sub(now).Hours()/24))})
	}
	switch {
	case a.output == "json":
		return a.printJSON(listed)
	case len(listed) == 0:
		_, err = fmt.Fprintf(a.stdout, "No kubeconfig of cluster %s is recorded.\n", loaded.Metadata.Name)
		return err
	}
	return printUsers(a.stdout, listed)
}

func printUsers(out io.Writer, users []listedUser) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "USER\tGROUPS\tISSUED\tEXPIRES\tDAYS LEFT\tSTATE\tBY")
	for _, u := range users {
		groups := "-"
		if len(u.Groups) > 0 {
			groups = strings.Join(u.Groups, ",")
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", u.Name, groups, u.Issued.Local().Format(time.DateOnly),
			u.NotAfter.Local().Format(time.DateOnly), u.DaysLeft, u.State, u.By)
	}
	return table.Flush()
}

// inDays formats a duration for people.
func inDays(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return plan.Count(int(d.Hours()/24), "day")
}
