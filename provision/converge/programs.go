package converge

import (
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
)

// uncover takes mounts away that lie over what programs lead to. Where there are none, umount fails and changes nothing.
func uncover(changes []plan.Change) []string {
	var script []string
	for _, p := range named(changes, plan.ProgramChange, plan.Update) {
		script = append(script, `while umount -- "$(readlink -f `+host.Quote(p)+`)" 2>/dev/null; do :; done`)
	}
	return script
}
