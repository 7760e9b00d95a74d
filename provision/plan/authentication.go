package plan

import (
	"slices"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// authentication finds an API server that works by another AuthenticationConfiguration than the one in its file.
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
		Reason: "has not taken its authentication file: it takes one when it reaches every issuer that is new",
	})
}

// authenticates says whether a change is of whom an API server takes, without a restart of it.
func authenticates(c Change) bool {
	return c.Kind == FileChange && c.Name == stack.AuthenticationFile && c.Action != Create ||
		c.Kind == UnitChange && c.Name == stack.APIServerService && c.Action == Await && strings.HasPrefix(c.To, "sha256:")
}
