package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/spec"
)

func newValidateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the spec without changing anything",
		Long: `Check the spec without changing anything.

All errors are reported at once, each with its place in the file, the field, the line and a remedy. The files of your own
CAs (spec.pki.authorities) are read and checked too, and this slipway must install the spec's version of Kubernetes:
` + "`slipway version`" + ` lists them.

The exit code is 0 if the spec is valid and 3 if it is not.`,
		Example: `  # Check cluster.yaml
  slipway validate

  # Check another file, or the standard input
  slipway validate -f staging.yaml
  slipway validate -f - < staging.yaml

  # The mistakes as a JSON list, for an editor or a pipeline
  slipway validate --output json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cluster, err := a.loadSpec(a.authorities(cmd.Context()), haveBundle())
			if a.output == "json" {
				return a.printDiagnostics(err)
			}
			if err != nil {
				return err
			}
			for _, remark := range a.remarks {
				_, _ = fmt.Fprintln(a.stderr, remark)
			}
			_, err = fmt.Fprintf(a.stdout, "%s is valid: %s\n", a.file, summary(cluster))
			return err
		},
	}
}

// printDiagnostics prints the errors of a spec as a list, empty if there are none. Other errors are
// returned.
func (a *app) printDiagnostics(err error) error {
	diagnostics := spec.Errors{}
	if err != nil && !errors.As(err, &diagnostics) {
		return err
	}
	if err := a.printJSON(diagnostics); err != nil {
		return err
	}
	if len(diagnostics) > 0 {
		return &exitError{code: exitInvalidSpec}
	}
	return nil
}

// summary is the cluster in one line.
func summary(c *spec.Cluster) string {
	controlPlanes := len(c.ControlPlanes())
	workers := len(c.Nodes()) - controlPlanes
	text := fmt.Sprintf("cluster %s, Kubernetes %s", c.Metadata.Name, c.Spec.Kubernetes.Version)
	elsewhere := slices.ContainsFunc(c.Spec.NodePools, func(p spec.NodePool) bool { return p.HostsFrom != nil })
	if !elsewhere || len(c.Nodes()) > 0 {
		text += fmt.Sprintf(", %s and %s", plan.Count(controlPlanes, "control-plane node"), plan.Count(workers, "worker"))
	}
	if elsewhere {
		text += ", and the machines that hostsFrom lists: they are not counted here"
	}
	return text
}
