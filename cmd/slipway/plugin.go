package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/provision/state"
)

// allowPluginFlag is the explicit yes to another network plugin in a cluster that has been up.
const allowPluginFlag = "allow-plugin-change"

// addPluginChange gives a command that flag.
func (w *work) addPluginChange(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.allowPlugin, allowPluginFlag, false,
		"change the network plugin of a cluster that has been up (spec.network.plugin): pods lose their network")
}

// checkPluginChange refuses the flag where it could not be kept: a network goes from one node to the other.
func (w *work) checkPluginChange() error {
	if w.allowPlugin && len(w.only) > 0 {
		return errors.New("--" + allowPluginFlag + " is for the whole cluster, and --only for some of its nodes, which would be cut off from the others: leave one out")
	}
	return nil
}

// pluginArg is the flag, as what goes on with this run has to be given it.
func (w *work) pluginArg() string {
	if !w.allowPlugin {
		return ""
	}
	return " --" + allowPluginFlag
}

// recallPlugin completes what an older slipway has recorded of a cluster that is up with the plugin that it applied.
func (c *cluster) recallPlugin(ctx context.Context, store *state.Store) error {
	up := c.identity.Up
	if up == nil || up.Plugin != "" {
		return nil
	}
	applied, err := readApplied(ctx, store)
	if err != nil {
		return err
	}
	if was := applied.Up(); was != nil {
		known := *up
		known.Plugin = was.Plugin
		c.identity.Up = &known
	}
	return nil
}
