package plan

import (
	"fmt"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// Clients returns the client certificates of stack.Clients that changes renew, in the format that
// connections.sh reads.
func Clients(changes []Change) string {
	var lines []string
	for _, row := range stack.Clients() {
		if !slices.ContainsFunc(changes, func(c Change) bool { return c.Kind == FileChange && c.Action == Update && c.Name == row.Cert }) {
			continue
		}
		which := "all"
		if row.Mixed {
			which = "some"
		}
		lines = append(lines, fmt.Sprintf("%s %04X %s", row.Unit, row.Port, which))
	}
	return strings.Join(lines, "\n")
}
