package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/balancer"
)

// newBalancerCmd is for the balancer's unit on every node. It is hidden, since people do not need
// it.
func newBalancerCmd(a *app) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:    "balancer",
		Short:  "Forward TCP connections to the API servers that are ready",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return balancer.Run(cmd.Context(), config, slog.New(slog.NewTextHandler(a.stderr, nil)))
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "the balancer's JSON configuration (required)")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}
