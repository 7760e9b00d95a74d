package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/certs"
	"slipway.dev/slipway/provision/stack"
)

// clockMargin is the fraction of the certificates' backdating that clocks must leave as a margin: a
// fifth. It covers the uncertainty of the measurement, and drift.
const clockMargin = 5

// FarBehind is the difference from which a clock is reported although no certificate depends on it.
const FarBehind = certs.Backdate - certs.Backdate/clockMargin

// RefuseClocks refuses to start using certificates (brought, in PEM) that begin, by the clock of
// some host, in the future or nearly so: that clock is behind the clock of the computer that issued
// them. Every host counts, because each may have to verify any of them. If no certificate is
// brought, nothing is refused; nor is it if clocks agree and the certificates are just new.
func RefuseClocks(observed stack.State, brought [][]byte) error {
	var behind []string
	for _, name := range slices.Sorted(maps.Keys(observed.Hosts)) {
		if observed.Hosts[name].Facts.Clock.Offset() < 0 {
			behind = append(behind, name)
		}
	}
	if len(behind) == 0 {
		return nil // the usual case: no need to parse thousands of certificates
	}
	youngest := youngestOf(brought)
	var reasons []string
	for _, name := range behind {
		c := observed.Hosts[name].Facts.Clock
		late := -c.Offset()
		if late > youngest.margin && youngest.begin.After(c.Sent.Add(-late-youngest.margin)) {
			reasons = append(reasons, fmt.Sprintf("%s: its clock is %s behind this computer's, and the new certificates begin at %s: "+
				"it would reject them as not yet valid; synchronize both clocks (NTP), and run this again",
				name, late.Round(time.Second), youngest.begin.UTC().Format(time.RFC3339)))
		}
	}
	return Refusal(HostsUnchanged, reasons)
}

// validity is the time from which a certificate is valid, and by how much a clock must be past it.
type validity struct {
	begin  time.Time
	margin time.Duration
}

// youngestOf returns the validity that begins last among the certificates; it skips what is not a
// certificate.
func youngestOf(contents [][]byte) validity {
	var last validity
	seen := map[string]bool{} // certificates that hosts share are parsed once
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
