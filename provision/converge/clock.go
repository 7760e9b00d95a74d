package converge

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/provision/plan"
)

// brought returns what may be certificates that were never used before: those issued just now, and
// the files that changes write to hosts, which an earlier run may have stored but not delivered.
func (v *View) brought(changes []plan.Change) [][]byte {
	var contents [][]byte
	for _, c := range v.Before.Issued {
		contents = append(contents, v.Input.PKI.Material[c.Name].Cert)
	}
	for _, c := range changes {
		if f := v.Desired.Hosts[c.Host].Files[c.Name]; c.Kind == plan.FileChange && c.Action != plan.Delete {
			contents = append(contents, f.Content)
		}
	}
	return contents
}

// warnOfClocks warns of clocks that would reject newly issued certificates.
func (v *View) warnOfClocks() {
	for _, name := range slices.Sorted(maps.Keys(v.Observed.Hosts)) {
		if late := -v.Observed.Hosts[name].Facts.Clock.Offset(); late > plan.FarBehind {
			v.report(name, fmt.Sprintf("warning: its clock is %s behind this computer's; synchronize both (NTP), before certificates are issued",
				late.Round(time.Second)))
		}
	}
}
