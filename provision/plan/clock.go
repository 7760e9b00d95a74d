package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
)

// clockMargin is which part of the time that certificates are dated back clocks must leave: a fifth. It is for what is not
// known of them, and for how they drift.
const clockMargin = 5

// FarBehind is from when a clock is spoken of although no certificate depends on it.
const FarBehind = certs.Backdate - certs.Backdate/clockMargin

// RefuseClocks refuses to put certificates (brought, in PEM) to use that begin, for some host, in the future, or nearly so:
// its clock is behind that of the computer on which they were issued. Every host counts, for it may have to do with any of
// them. Where no certificate is brought nothing is refused, nor where clocks agree and the certificates are just young.
func RefuseClocks(observed stack.State, brought [][]byte) error {
	var behind []string
	for _, name := range slices.Sorted(maps.Keys(observed.Hosts)) {
		if observed.Hosts[name].Facts.Clock.Offset() < 0 {
			behind = append(behind, name)
		}
	}
	if len(behind) == 0 {
		return nil // as nearly always; thousands of certificates need not be read
	}
	youngest := youngestOf(brought)
	var reasons []string
	for _, name := range behind {
		c := observed.Hosts[name].Facts.Clock
		late := -c.Offset()
		if late > youngest.margin && youngest.begin.After(c.Sent.Add(-late-youngest.margin)) {
			reasons = append(reasons, fmt.Sprintf("%s: its clock is %s behind this computer's, and certificates that would be used now begin at %s: "+
				"it would take them for not valid yet; set both clocks (NTP), and run this again", name, late.Round(time.Second), youngest.begin.UTC().Format(time.RFC3339)))
		}
	}
	return Refusal(HostsUnchanged, reasons)
}

// validity is from when a certificate is valid, and by how much a clock has to be past that.
type validity struct {
	begin  time.Time
	margin time.Duration
}

// youngestOf is the validity that begins last among those of certificates; what is none is passed over.
func youngestOf(contents [][]byte) validity {
	var last validity
	seen := map[string]bool{} // what hosts have in common is read once
	for _, content := range contents {
		if seen[string(content)] {
			continue
		}
		seen[string(content)] = true
		chain, err := certs.Parse(content)
		if err != nil {
			continue
		}
		for _, cert := range chain {
			b := validity{cert.NotBefore, certs.Backdated(cert.NotAfter.Sub(cert.NotBefore)) / clockMargin}
			if b.begin.Add(b.margin).After(last.begin.Add(last.margin)) {
				last = b
			}
		}
	}
	return last
}
