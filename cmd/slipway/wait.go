package main

import (
	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/converge"
)

// newWaitForPodCIDRCmd is for flanneld's unit, which runs it before flanneld. It is hidden, since
// people do not need it.
func newWaitForPodCIDRCmd() *cobra.Command {
	var kubeconfig, node string
	cmd := &cobra.Command{
		Use:    "wait-for-pod-cidr",
		Short:  "Wait until a node has been given a network for its pods",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return converge.AwaitPodCIDR(cmd.Context(), kubeconfig, node)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "a kubeconfig with the right to read nodes (required)")
	cmd.Flags().StringVar(&node, "node", "", "name of the node (required)")
	_ = cmd.MarkFlagRequired("kubeconfig")
	_ = cmd.MarkFlagRequired("node")
	return cmd
}
