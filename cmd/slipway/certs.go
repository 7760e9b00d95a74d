package main

import "github.com/spf13/cobra"

func newCertsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "See to the cluster's certificates",
		Long: `See to the cluster's certificates. Every apply renews what is due; status shows what there is and where, and works while
the API is down. Where certificates have expired, ` + "`slipway apply`" + ` issues them anew, and rotate-ca replaces authorities.
Csr and import are for authorities whose key is elsewhere.`,
		Example: `  slipway certs status                      # what there is, the most urgent first
  slipway certs renew apiserver             # a new one before it is due
  slipway certs rotate-ca all --dry-run     # what replacing the authorities would do
  slipway certs csr --out requests          # what has to be signed elsewhere`,
		Args: cobra.NoArgs,
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
