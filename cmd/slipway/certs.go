package main

import "github.com/spf13/cobra"

func newCertsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Manage the cluster's certificates",
		Long: `Manage the cluster's certificates. Every apply renews certificates that are due; status shows all certificates and
where they are used, and works while the API is down. If certificates have expired, ` + "`slipway apply`" + ` renews them, and
rotate-ca replaces CAs. Csr and import are for external CAs, whose key slipway does not have.`,
		Example: `  slipway certs status                      # all certificates, the most urgent first
  slipway certs renew apiserver             # renew it before it is due
  slipway certs rotate-ca all --dry-run     # what replacing the CAs would do
  slipway certs csr --out requests          # CSRs for an external CA`,
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
