package converge

import (
	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
)

// uncover removes mounts that cover the targets of program links. If there are none, umount fails
// and changes nothing.
func uncover(changes []plan.Change) []string {
	var script []string
	for _, p := range named(changes, plan.ProgramChange, plan.Update) {
		script = append(script, `while umount -- "$(readlink -f `+host.Quote(p)+`)" 2>/dev/null; do :; done`)
	}
	return script
}
