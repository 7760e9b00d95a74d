package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/bundle"
)

// version is set by the linker (see the Makefile).
var version = "unknown"

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show slipway's version and the Kubernetes versions that it installs",
		Example: "  slipway version --output json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version    string   `json:"version"`
				Go         string   `json:"go"`
				Platform   string   `json:"platform"`
				Kubernetes []string `json:"kubernetes"`
			}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, bundle.Versions()}
			if a.output == "json" {
				return a.printJSON(v)
			}
			_, err := fmt.Fprintf(a.stdout, "slipway %s (%s, %s), installs Kubernetes %v\n", v.Version, v.Go, v.Platform, v.Kubernetes)
			return err
		},
	}
}
