package main

import "github.com/spf13/cobra"

func newCertsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "See to the cluster's certificates",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		newCertsStatusCmd(a),
		newCertsRenewCmd(a),
		newCertsRotateCACmd(a),
		newCertsCSRCmd(a),
		newCertsImportCmd(a),
		newCertsTextfileCmd(),
	)
	return cmd
}
