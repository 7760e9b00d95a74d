package stack

import (
	"maps"
	"slices"
	"strings"
)

// admissionPlugins are enabled in addition to those that the API server enables itself. Without
// NodeRestriction, nodes could change each other; a Service with an external IP could attract the
// traffic of others (CVE-2020-8554); and events, which everyone may write, could fill etcd. The
// limits for events are in admission.yaml.
var admissionPlugins = []string{"DenyServiceExternalIPs", "EventRateLimit", "NodeRestriction"}

const enablePlugins, disablePlugins = "enable-admission-plugins", "disable-admission-plugins"

// withAdmission returns extraArgs of the API server with slipway's plugins added to the list of
// enabled ones, except for those that the user disables: a list that replaces another would drop
// some silently.
func withAdmission(extra map[string]string) map[string]string {
	disabled := pluginList(extra[disablePlugins])
	enabled := slices.DeleteFunc(append(pluginList(extra[enablePlugins]), admissionPlugins...), func(plugin string) bool {
		return slices.Contains(disabled, plugin)
	})
	slices.Sort(enabled)
	all := map[string]string{}
	maps.Copy(all, extra)
	all[enablePlugins] = strings.Join(slices.Compact(enabled), ",")
	return all
}

// pluginList returns the words of a flag's list.
func pluginList(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}
