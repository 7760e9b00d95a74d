package keys

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
)

// EveryLeaf is the pattern of all certificates.
var EveryLeaf = []string{"*"}

// Renewals returns the leaves that patterns name: a whole name, or the part before its @, with *
// for anything.
func Renewals(patterns []string, requests []certs.Request) ([]string, error) {
	var names []string
	for _, pattern := range patterns {
		found := false
		for _, q := range requests {
			kind, _, _ := strings.Cut(q.Name, "@")
			if q.Kind != certs.Leaf || !matches(pattern, q.Name) && !matches(pattern, kind) {
				continue
			}
			found = true
			if !slices.Contains(names, q.Name) {
				names = append(names, q.Name)
			}
		}
		if found {
			continue
		}
		if slices.ContainsFunc(requests, func(q certs.Request) bool { return q.Name == pattern }) {
			return nil, fmt.Errorf("%s is a CA or a key, and to replace it changes what everything trusts: see `slipway certs rotate-ca --help`", pattern)
		}
		return nil, fmt.Errorf("there is no certificate %q: `slipway certs status` lists them", pattern)
	}
	return names, nil
}

// matches is path.Match, except that slashes are like any other character.
func matches(pattern, name string) bool {
	plain := strings.NewReplacer("/", ":")
	ok, err := path.Match(plain.Replace(pattern), plain.Replace(name))
	return ok && err == nil
}
