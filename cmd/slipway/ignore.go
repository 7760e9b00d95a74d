package main

import (
	"strings"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/preflight"
)

// ignoreFlag leaves out preflight checks.
const ignoreFlag = "ignore"

// addIgnore adds that flag to a command.
func (w *work) addIgnore(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&w.Ignore, ignoreFlag, nil, "leave out these preflight checks (`NAME,...`; docs/preflight.md)")
	completeWords(cmd, ignoreFlag, preflight.Names)
}

// ignoreArg is the flag as an argument for the command that continues this run.
func (w *work) ignoreArg() string {
	if len(w.Ignore) == 0 {
		return ""
	}
	return " --" + ignoreFlag + " " + strings.Join(w.Ignore, ",")
}
