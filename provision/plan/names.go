package plan

import (
	"slipway.dev/slipway/provision/spec"
)

func machineName(m spec.Machine) string { return m.Name }

func names[T any](of []T, name func(T) string) []string {
	var all []string
	for _, one := range of {
		all = append(all, name(one))
	}
	return all
}
