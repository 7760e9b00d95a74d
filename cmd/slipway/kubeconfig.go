package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision"
)

func newKubeconfigCmd(a *app) *cobra.Command {
	var merge bool
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the admin kubeconfig, or merge it into ~/.kube/config",
		Long: `Print a kubeconfig of the cluster's administrator (kubeadm:cluster-admins), certificate and key inside.
Whoever has it may do everything in the cluster.`,
		Example: `  slipway kubeconfig > demo.conf          # keep it: umask 077
  slipway kubeconfig --merge              # into $KUBECONFIG or ~/.kube/config, and make it current`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.kubeconfig(cmd.Context(), merge) },
	}
	cmd.Flags().BoolVar(&merge, "merge", false, "merge into $KUBECONFIG or ~/.kube/config instead of printing")
	return cmd
}

func (a *app) kubeconfig(ctx context.Context, merge bool) error {
	c, infra, err := a.find(ctx)
	if err != nil {
		return err
	}
	pki, err := c.readPKI(ctx)
	if err != nil {
		return err
	}
	text, err := provision.AdminKubeconfig(c.spec.Metadata.Name, "https://"+endpoint(c.spec, infra), pki)
	if err != nil {
		return err
	}
	if !merge {
		_, err = a.stdout.Write(text.Reveal())
		return err
	}
	mine, err := clientcmd.Load(text.Reveal())
	if err != nil {
		return fmt.Errorf("read our own kubeconfig: %w", err)
	}
	path, err := mergeKubeconfig(mine)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stderr, "Context %s is current in %s.\n", mine.CurrentContext, path)
	return err
}

// notAppliedError means that nothing of a cluster is stored yet.
type notAppliedError struct{ text string }

func (e *notAppliedError) Error() string { return e.text }

// readPKI loads the certificates without the lock: reading does not wait for a run. Where there are none yet, the error
// is a *notAppliedError.
func (c *cluster) readPKI(ctx context.Context) (*certs.PKI, error) {
	store, err := c.readStore(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &notAppliedError{fmt.Sprintf("cluster %s has no state in %s: run `slipway apply` first, or see that spec.state and SLIPWAY_STATE_DIR are as they were then",
			c.spec.Metadata.Name, c.state)}
	}
	if err != nil {
		return nil, err
	}
	s, err := loadSecrets(ctx, store)
	if err = errors.Join(err, store.Close()); err != nil {
		return nil, err
	}
	used, other := s.Rotation.View(s.Material)
	if _, ok := used[certs.Admin]; !ok {
		return nil, &notAppliedError{fmt.Sprintf("cluster %s has no certificates yet: run `slipway apply` first", c.spec.Metadata.Name)}
	}
	return &certs.PKI{Material: used, Rotation: s.Rotation, Other: other}, nil
}

// mergeKubeconfig adds what mine has to the user's file, replacing entries of the same name, and makes it current.
// The file is replaced as a whole, and only its owner can read it.
func mergeKubeconfig(mine *clientcmdapi.Config) (string, error) {
	access := clientcmd.NewDefaultPathOptions()
	config, err := access.GetStartingConfig()
	if err != nil {
		return "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	for name, cluster := range mine.Clusters {
		config.Clusters[name] = cluster
	}
	for name, user := range mine.AuthInfos {
		config.AuthInfos[name] = user
	}
	for name, context := range mine.Contexts {
		config.Contexts[name] = context
	}
	config.CurrentContext = mine.CurrentContext
	path := access.GetDefaultFilename()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("write the kubeconfig: %w", err)
	}
	if err := clientcmd.ModifyConfig(access, *config, true); err != nil {
		return "", fmt.Errorf("write the kubeconfig: %w", err)
	}
	return path, nil
}
