package main

import (
	"fmt"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/delivery"
)

// newDeliveryCmd is for hosts, which apply copies programs to. It is hidden, since people do not need
// it.
func newDeliveryCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:    "delivery",
		Short:  "Give programs to other machines, and unpack them",
		Hidden: true,
		Args:   cobra.NoArgs,
	}
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve files of the working directory to other machines of a run, as stdin says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return delivery.Serve(cmd.Context(), ".", a.stdin, a.stdout)
		},
	}
	var mode string
	unpack := &cobra.Command{
		Use:   "unpack FILE TARGET",
		Short: "Unpack a file that is named after its digests",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			bits, err := strconv.ParseUint(mode, 8, 9)
			if err != nil {
				return fmt.Errorf("--mode %s: %w", mode, err)
			}
			return delivery.Unpack(cmd.Context(), args[0], args[1], fs.FileMode(bits))
		},
	}
	unpack.Flags().StringVar(&mode, "mode", "0755", "permission bits of the target")
	cmd.AddCommand(serve, unpack)
	return cmd
}
