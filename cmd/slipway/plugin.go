package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// allowPluginFlag is the explicit yes to another network plugin in a cluster that has been up.
const allowPluginFlag = "allow-plugin-change"

// addPluginChange gives a command that flag.
func (w *work) addPluginChange(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.AllowPluginChange, allowPluginFlag, false,
		"change the network plugin of a cluster that has been up (spec.network.plugin): pods lose their network")
}

// checkPluginChange refuses the flag where it could not be kept: a network goes from one node to the other.
func (w *work) checkPluginChange() error {
	if w.AllowPluginChange && len(w.Only) > 0 {
		return errors.New("--" + allowPluginFlag + " is for the whole cluster, and --only for some of its nodes, which would be cut off from the others: leave one out")
	}
	return nil
}

// pluginArg is the flag, as what goes on with this run has to be given it.
func (w *work) pluginArg() string {
	if !w.AllowPluginChange {
		return ""
	}
	return " --" + allowPluginFlag
}

// rebuildArg is the flag --rebuild-empty, as what goes on with this run has to be given it.
func (w *work) rebuildArg() string {
	if w.RebuildEmpty == "" {
		return ""
	}
	return " --rebuild-empty " + w.RebuildEmpty
}
