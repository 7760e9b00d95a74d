package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/observe"
)

// textfileName is a name that the node exporter's textfile collector finds.
const textfileName = "slipway-certificates.prom"

// newCertsTextfileCmd is for the timer on every node (spec.pki.expiryMetrics). It is hidden: people
// use certs status.
func newCertsTextfileCmd() *cobra.Command {
	var dir, address string
	var node certs.Node
	cmd := &cobra.Command{
		Use:     "textfile",
		Short:   "Write the expiry of this node's certificates for the node exporter",
		Example: `  slipway certs textfile --node demo-cp-1 --address 192.0.2.1 --control-plane --directory /var/lib/prometheus/node-exporter`,
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if node.Address, err = netip.ParseAddr(address); err != nil {
				return fmt.Errorf("--address: %w", err)
			}
			return writeTextfile(cmd.Context(), dir, host.Local(node.Name), node)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "directory", "", "write "+textfileName+" in this directory (required)")
	flags.StringVar(&node.Name, "node", "", "the name of this node (required)")
	flags.StringVar(&address, "address", "", "the address of this node (required)")
	flags.BoolVar(&node.ControlPlane, "control-plane", false, "this node is a control plane")
	for _, name := range []string{"directory", "node", "address"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// writeTextfile replaces the file as a whole: readers see the old one or the new one.
func writeTextfile(ctx context.Context, dir string, h host.Host, node certs.Node) (err error) {
	uses := observe.LocalInventory(ctx, h, node)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the directory of metrics: %w", err)
	}
	file, err := os.CreateTemp(dir, "."+textfileName+".*.new") // the collector skips names that do not end in .prom
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if err := errors.Join(certs.WriteMetrics(file, uses), file.Chmod(0o644), file.Close()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return os.Rename(file.Name(), filepath.Join(dir, textfileName))
}
