package stack

import (
	"slices"
	"strings"

	"slipway.dev/slipway/certs"
)

// authorityRing lists the authorities that a host trusts, by their names and the fingerprints of their keys, sorted. It is
// the same for a renewed certificate.
func authorityRing(pki *certs.PKI) []byte {
	var lines []string
	for _, q := range pki.Requests {
		if q.Kind == certs.Authority {
			lines = append(lines, ringLines(q.Name, pki.TrustedKeys(q.Name))...)
		}
	}
	return ring(lines)
}

// AuthorityRings are all that hosts can have at any stage of the rotation that is under way: some of the keys that are
// known of each authority. Those of different authorities may have got there at different stages.
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

// subsets are all but the empty one.
func subsets(of []string) [][]string {
	var all [][]string
	for _, one := range of {
		for _, some := range slices.Concat([][]string{nil}, all) {
			all = append(all, append(slices.Clone(some), one))
		}
	}
	return all
}
