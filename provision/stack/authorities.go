package stack

import (
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
)

// authorityRing lists the CAs that a host trusts, by their names and the fingerprints of their
// keys, sorted. A renewed certificate does not change it.
func authorityRing(pki *certs.PKI) []byte {
	var lines []string
	for _, q := range pki.Requests {
		if q.Kind == certs.Authority {
			lines = append(lines, ringLines(q.Name, pki.TrustedKeys(q.Name))...)
		}
	}
	return ring(lines)
}

// AuthorityRings returns all rings that hosts can have at any stage of the running rotation: any
// non-empty subset of each CA's known keys. Different CAs may have been written at different
// stages.
func AuthorityRings(pki *certs.PKI) [][]byte {
	all := [][]string{nil}
	for _, q := range pki.Requests {
		if q.Kind != certs.Authority {
			continue
		}
		var longer [][]string
		for _, some := range subsets(ringLines(q.Name, pki.KnownKeys(q.Name))) {
			for _, lines := range all {
				longer = append(longer, slices.Concat(lines, some))
			}
		}
		all = longer
	}
	rings := make([][]byte, len(all))
	for i, lines := range all {
		rings[i] = ring(lines)
	}
	return rings
}

func ringLines(name string, keys []string) []string {
	var lines []string
	for _, key := range keys {
		lines = append(lines, name+" "+key+"\n")
	}
	return lines
}

func ring(lines []string) []byte {
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// subsets returns all except the empty one.
func subsets(of []string) [][]string {
	var all [][]string
	for _, one := range of {
		for _, some := range slices.Concat([][]string{nil}, all) {
			all = append(all, append(slices.Clone(some), one))
		}
	}
	return all
}
