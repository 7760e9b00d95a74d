package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// allowPluginFlag explicitly allows another network plugin in a cluster that has been up.
const allowPluginFlag = "allow-plugin-change"

// addPluginChange adds that flag to a command.
func (w *work) addPluginChange(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.AllowPluginChange, allowPluginFlag, false,
		"change the network plugin of a cluster that has been up (spec.network.plugin): pods lose their network")
}

// checkPluginChange refuses the flag with --only: the pod network connects all nodes.
func (w *work) checkPluginChange() error {
	if w.AllowPluginChange && len(w.Only) > 0 {
		return errors.New("--" + allowPluginFlag + " is for the whole cluster, and --only for some of its nodes, which would be cut off from the others: omit one")
	}
	return nil
}

// pluginArg is the flag as an argument for the command that continues this run.
func (w *work) pluginArg() string {
	if !w.AllowPluginChange {
		return ""
	}
	return " --" + allowPluginFlag
}

// rebuildArg is --rebuild-empty as an argument for the command that continues this run.
func (w *work) rebuildArg() string {
	if w.RebuildEmpty == "" {
		return ""
	}
	return " --rebuild-empty " + w.RebuildEmpty
}
