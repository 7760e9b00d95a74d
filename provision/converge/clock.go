package converge

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway.dev/slipway/provision/plan"
)

// brought is what may be certificates that nobody has used before: what was issued just now, and the files that changes put
// on hosts, which an earlier run may have stored and not brought there.
func (r *Runner) brought(changes []plan.Change) [][]byte {
	var contents [][]byte
	for _, c := range r.Before.Issued {
		contents = append(contents, r.Input.PKI.Material[c.Name].Cert)
	}
	for _, c := range changes {
		if f := r.Desired.Hosts[c.Host].Files[c.Name]; c.Kind == plan.FileChange && c.Action != plan.Delete {
			contents = append(contents, f.Content)
		}
	}
	return contents
}

// warnOfClocks speaks of clocks with which no certificate could be issued.
func (r *Runner) warnOfClocks() {
	for _, name := range slices.Sorted(maps.Keys(r.Observed.Hosts)) {
		if late := -r.Observed.Hosts[name].Facts.Clock.Offset(); late > plan.FarBehind {
			r.report(name, fmt.Sprintf("warning: its clock is %s behind this computer's; set both (NTP), before certificates are issued", late.Round(time.Second)))
		}
	}
}
