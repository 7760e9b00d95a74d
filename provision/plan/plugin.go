package plan

import (
	"fmt"

	"slipway.dev/slipway/provision/spec"
	"slipway.dev/slipway/provision/stack"
)

// PluginBefore is the network plugin that a cluster has, where its spec names another one; else empty.
func (u *Up) PluginBefore(c *spec.Cluster) string {
	if u == nil || u.Plugin == c.Spec.Network.Plugin {
		return ""
	}
	return u.Plugin
}

// refusePlugin refuses another network plugin, which nobody has allowed.
func (u *Up) refusePlugin(c *spec.Cluster) []string {
	was := u.PluginBefore(c)
	if was == "" {
		return nil
	}
	means := "flanneld would stop, and " + stack.NoNetwork
	if was == "none" {
		means = "flanneld would start beside the plugin that you have installed, and " + twoNetworks
	}
	return []string{fmt.Sprintf("spec.network.plugin was %s and is %s: %s; put it back. Only if that is meant, `slipway plan --allow-plugin-change` shows what it "+
		"disturbs, and `slipway apply --allow-plugin-change` does it",
		was, c.Spec.Network.Plugin, means)}
}

// twoNetworks is what becomes of pods where flanneld starts on nodes that had another plugin.
const twoNetworks = "pods that have their network from the one do not reach those that have it from the other, until that plugin is removed and they are made anew"

// replaced says what becomes of pods of a plugin in whose place flannel comes. Where flannel goes, its unit says it.
func (s Situation) replaced(steps []Step) []Disruption {
	hosts := hostsOf(steps, UnitChange, stack.FlannelService, Create)
	if s.PluginWas != "none" || len(hosts) == 0 {
		return nil
	}
	return []Disruption{{What: "flanneld starts", Hosts: hosts, How: s.how(hosts), Effect: "it runs beside the plugin that you have installed, and " + twoNetworks}}
}
