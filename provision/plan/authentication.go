package plan

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// authentication finds an API server that uses another AuthenticationConfiguration than the one in
// its file.
func (d *hostDiff) authentication(want, have stack.HostState) {
	if want.Authentication == "" || have.Authentication == "" || want.Authentication == have.Authentication {
		return
	}
	if slices.ContainsFunc(d.changes, func(c Change) bool {
		return authenticates(c) || c.Kind == UnitChange && c.Name == stack.APIServerService
	}) {
		return
	}
	d.add(Change{
		Kind: UnitChange, Name: stack.APIServerService, Action: Await, From: have.Authentication, To: want.Authentication, Cause: Wanted,
		Reason: "has not loaded its authentication file: it loads one once it reaches every new issuer",
	})
}

// authenticates reports whether a change is of an API server's authentication file, which it
// reloads without a restart.
func authenticates(c Change) bool {
	return c.Kind == FileChange && c.Name == stack.AuthenticationFile && c.Action != Create ||
		c.Kind == UnitChange && c.Name == stack.APIServerService && c.Action == Await && strings.HasPrefix(c.To, "sha256:")
}
