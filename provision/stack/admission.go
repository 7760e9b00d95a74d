package stack

import (
	"maps"
	"slices"
	"strings"
)

// admissionPlugins are enabled beside those that the API server enables itself. Nodes could change each other without
// NodeRestriction; a Service could draw anybody's traffic to itself with an external IP (CVE-2020-8554); and events, which
// everybody may write, could fill etcd. The limits of events are in admission.yaml.
var admissionPlugins = []string{"DenyServiceExternalIPs", "EventRateLimit", "NodeRestriction"}

const enablePlugins, disablePlugins = "enable-admission-plugins", "disable-admission-plugins"

// withAdmission gives extraArgs of the API server in which the list of enabled plugins has slipway's own, too, but for those
// that the user disables: a list that takes the place of another would drop some without a word.
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

// pluginList is the words of a flag's list.
func pluginList(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}
