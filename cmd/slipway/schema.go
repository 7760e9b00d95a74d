package main

import (
	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/spec"
)

func newSchemaCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the spec",
		Long: `Print the JSON Schema (draft 2020-12) of the spec, for editors that complete and check YAML.

Slipway refuses everything that the schema refuses; slipway validate checks more, such as overlapping networks.`,
		Example: `  # For an editor with the YAML language server
  slipway schema > cluster.schema.json
  sed -i '1i # yaml-language-server: $schema=cluster.schema.json' cluster.yaml`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(spec.Schema())
			return err
		},
	}
}
