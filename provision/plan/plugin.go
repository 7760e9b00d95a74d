package plan

import (
	"fmt"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// PluginBefore returns the network plugin that a cluster has, if its spec names another one; else
// "".
func (u *Up) PluginBefore(c *spec.Cluster) string {
	if u == nil || u.Plugin == c.Spec.Network.Plugin {
		return ""
	}
	return u.Plugin
}

// refusePlugin refuses another network plugin unless that is allowed.
func (u *Up) refusePlugin(c *spec.Cluster) []string {
	was := u.PluginBefore(c)
	if was == "" {
		return nil
	}
	means := "flanneld would stop, and " + stack.NoNetwork
	if was == "none" {
		means = "flanneld would start next to the plugin that you have installed, and " + twoNetworks
	}
	return []string{fmt.Sprintf("spec.network.plugin was %s and is %s: %s; put it back. Only if that is meant, "+
		"`slipway plan --allow-plugin-change` shows what it disturbs, and `slipway apply --allow-plugin-change` does it",
		was, c.Spec.Network.Plugin, means)}
}

// twoNetworks is the effect on pods if flanneld starts on nodes that had another plugin.
const twoNetworks = "pods of the one plugin do not reach pods of the other until the old plugin is removed and its pods are recreated"

// replaced returns the effect on pods of a plugin that flannel replaces. If flannel is removed, its
// unit describes the effect.
func (s Situation) replaced(steps []Step) []Disruption {
	hosts := hostsOf(steps, UnitChange, stack.FlannelService, Create)
	if s.PluginWas != "none" || len(hosts) == 0 {
		return nil
	}
	return []Disruption{{
		What: "flanneld starts", Hosts: hosts, How: s.how(hosts),
		Effect: "it runs next to the plugin that you have installed, and " + twoNetworks,
	}}
}
