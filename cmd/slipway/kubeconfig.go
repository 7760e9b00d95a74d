package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/keys"
	"slipway.dev/slipway/provision/secret"
	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/provision/users"
)

func newKubeconfigCmd(a *app) *cobra.Command {
	run := &kubeconfigRun{app: a}
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig for the admin or another user, or merge it into ~/.kube/config",
		Long: `Print a kubeconfig of the cluster's administrator (kubeadm:cluster-admins), with certificate and key.
Whoever has it may do everything in the cluster.

With --user it is one for another user, with the rights that are bound to the name and the groups. The key is generated
here, the cluster signs the certificate, and both are stored only in the kubeconfig. The state records which kubeconfigs
were issued to whom, without keys: see ` + "`slipway kubeconfig list`" + `. If a run has locked the state, kubeconfig waits for it.

--merge overwrites no entry of another cluster, that is, one with another server and a CA that this cluster never had. In
that case use --context to rename the entries for cluster, user and context. ` + "`slipway destroy`" + ` removes the cluster's
entries again.

A certificate cannot be revoked: it is valid until it expires, or until the cluster's CA is replaced. You can remove its
rights by removing the bindings of the name and of the groups. So group system:masters, whose rights are built in, is
refused.`,
		Example: `  slipway kubeconfig > demo.conf          # keep it: umask 077
  slipway kubeconfig --merge              # into $KUBECONFIG or ~/.kube/config, and make it current
  slipway kubeconfig --merge --context shop   # if it already has a cluster of the same name
  slipway kubeconfig --user ana --group dev --validity 90d --out ana.conf   # only its owner can read the file
  kubectl create rolebinding dev --clusterrole=edit --group=dev --namespace=shop
  slipway kubeconfig list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			run.personal = cmd.Flags().Changed("user")
			return run.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&run.merge, "merge", false, "merge into $KUBECONFIG or ~/.kube/config instead of printing")
	flags.StringVar(&run.context, "context", "", "with --merge: use `NAME` for cluster, user and context")
	flags.StringVar(&run.out, "out", "", "write to `FILE`, which only its owner can read, instead of printing")
	flags.StringVar(&run.user, "user", "", "a kubeconfig for this user instead of the admin's")
	flags.StringArrayVar(&run.groups, "group", nil, "a group of the user; can be repeated")
	flags.StringVar(&run.validity, "validity", "", "how long the user's certificate is valid, such as 1y, 90d, 12h or 30m (default 1y)")
	_ = cmd.MarkFlagFilename("out")
	cmd.AddCommand(newKubeconfigListCmd(a))
	return cmd
}

// kubeconfigRun is one run of kubeconfig.
type kubeconfigRun struct {
	*app
	merge    bool
	context  string // the name of the entries; "" is user@cluster, and the cluster's name
	out      string
	personal bool // --user was set
	user     string
	groups   []string
	validity string

	own   ownCAs        // of the cluster, which identify its entries
	valid time.Duration // validity, parsed; 0 is the default
	into  *privateFile  // nil without --out
}

// check validates the flags, before anything is changed.
func (r *kubeconfigRun) check() error {
	var errs []error
	if r.merge && r.out != "" {
		errs = append(errs, errors.New("--merge and --out cannot be combined: give one of them"))
	}
	if r.context != "" && !r.merge {
		errs = append(errs, errors.New("--context names the entries that --merge makes: give --merge too"))
	}
	if !r.personal && (len(r.groups) > 0 || r.validity != "") {
		errs = append(errs, errors.New("--group and --validity are for a user's kubeconfig: name the user with --user"))
	}
	if r.personal {
		errs = append(errs, users.CheckUser(r.user, r.groups))
	}
	if r.validity != "" {
		var err error
		if r.valid, err = parseValidity(r.validity); err != nil {
			errs = append(errs, fmt.Errorf("--validity: %w", err))
		}
	}
	return errors.Join(errs...)
}

// parseValidity parses the durations of the spec, and hours, minutes and seconds as in Go.
func parseValidity(text string) (time.Duration, error) {
	d, err := spec.ParseDuration(text)
	if err == nil && d > 0 {
		return d, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a duration such as 1y, 90d, 12h or 30m", text)
}

func (r *kubeconfigRun) run(ctx context.Context) (err error) {
	if err := r.check(); err != nil {
		return err
	}
	if r.out != "" {
		if r.into, err = newPrivateFile("the kubeconfig", r.out); err != nil {
			return err
		}
		defer r.into.Discard()
	}
	if r.merge { // before anything is issued
		if _, err := clientcmd.NewDefaultPathOptions().GetStartingConfig(); err != nil {
			return fmt.Errorf("read the kubeconfig that is merged into: %w", err)
		}
	}
	c, infra, err := r.find(ctx)
	if err != nil {
		return err
	}
	return r.give(ctx, c, infra)
}

// give makes the requested kubeconfig, and delivers it.
func (r *kubeconfigRun) give(ctx context.Context, c *cluster, infra *spec.Infrastructure) error {
	kept, err := c.readStored(ctx)
	if err != nil {
		return err
	}
	r.own = c.casOf(kept, infra)
	if err := r.checkEntries(c.spec.Metadata.Name, "https://"+stack.ExternalEndpoint(c.spec, infra)); err != nil {
		return err
	}
	if r.personal {
		return r.issue(ctx, c, infra, kept.PKI())
	}
	text, err := stack.AdminKubeconfig(c.spec.Metadata.Name, "https://"+stack.ExternalEndpoint(c.spec, infra), kept.PKI())
	if err != nil {
		return err
	}
	r.recordAdmin(ctx, c, kept)
	return r.deliver(text)
}

// checkEntries refuses to merge over another cluster's entries, before a certificate is issued.
func (r *kubeconfigRun) checkEntries(cluster, server string) error {
	if !r.merge {
		return nil
	}
	there, err := clientcmd.NewDefaultPathOptions().GetStartingConfig()
	if err != nil {
		return fmt.Errorf("read the kubeconfig that is merged into: %w", err)
	}
	user := r.user
	if !r.personal {
		user = stack.AdminUser
	}
	text, err := certs.KubeconfigEmbedded(certs.Access{Cluster: cluster, User: user, Server: server}, nil, certs.Item{})
	if err != nil {
		return err
	}
	mine, err := r.named(text)
	if err != nil {
		return err
	}
	return checkTaken(there, mine, r.own)
}

// named returns one of our kubeconfigs with the entry names of --context.
func (r *kubeconfigRun) named(text secret.Bytes) (*clientcmdapi.Config, error) {
	mine, err := clientcmd.Load(text.Reveal())
	if err != nil {
		return nil, fmt.Errorf("read our own kubeconfig: %w", err)
	}
	if r.context != "" {
		mine = renamed(mine, r.context)
	}
	return mine, nil
}

// deliver prints, writes or merges a kubeconfig.
func (r *kubeconfigRun) deliver(text secret.Bytes) error {
	if r.into != nil {
		if err := r.into.Commit(text.Reveal()); err != nil {
			return err
		}
		_, err := fmt.Fprintf(r.stderr, "The kubeconfig is in %s.\n", r.out)
		return err
	}
	if !r.merge {
		_, err := r.stdout.Write(text.Reveal())
		return err
	}
	mine, err := r.named(text)
	if err != nil {
		return err
	}
	path, err := mergeKubeconfig(mine, r.own)
	if err != nil {
		return err
	}
	if r.context != "" {
		_, _ = fmt.Fprintf(r.stderr, "Cluster, user and context are called %s there.\n", r.context)
	}
	_, err = fmt.Fprintf(r.stderr, "Context %s is current in %s.\n", mine.CurrentContext, path)
	return err
}

// notAppliedError means that nothing of a cluster is stored yet.
type notAppliedError struct{ text string }

func (e *notAppliedError) Error() string { return e.text }

// readPKI loads the certificates without the lock: reading does not wait for a run. If there are
// none yet, the error is a *notAppliedError.
func (c *cluster) readPKI(ctx context.Context) (*certs.PKI, error) {
	kept, err := c.readStored(ctx)
	if err != nil {
		return nil, err
	}
	return kept.PKI(), nil
}

// readStored is readPKI with everything else that is stored.
func (c *cluster) readStored(ctx context.Context) (*keys.Stored, error) {
	kept, err := c.readSecrets(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &notAppliedError{fmt.Sprintf("cluster %s has no state in %s: run `slipway apply` first, "+
			"or check that spec.state and SLIPWAY_STATE_DIR are the same as then",
			c.spec.Metadata.Name, c.state)}
	}
	if err != nil {
		return nil, err
	}
	if _, ok := kept.Material[certs.Admin]; !ok {
		return nil, &notAppliedError{fmt.Sprintf("cluster %s has no certificates yet: run `slipway apply` first", c.spec.Metadata.Name)}
	}
	return kept, nil
}

// readSecrets is loadSecrets without the lock; fs.ErrNotExist if there is no state.
func (c *cluster) readSecrets(ctx context.Context) (*keys.Stored, error) {
	store, err := c.readStore(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := keys.Load(ctx, store)
	return kept, errors.Join(err, store.Close())
}
