package main

import "github.com/spf13/cobra"

func newCertsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Have certificates signed elsewhere",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		newCertsCSRCmd(a),
		newCertsImportCmd(a),
	)
	return cmd
}
