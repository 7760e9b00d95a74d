package converge

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"slipway.dev/slipway/provision/stack"
)

// unitsSayEvery is how many rounds of 0.1 s a wait for units takes between two lines of unitsSay.
const unitsSayEvery = 30

// maxWaiting is how many units a report names; the others are counted.
const maxWaiting = 3

// unitsSay is a script that prints one line: the states of units, in their order, and after a bar
// the file that is being imported into the runtime, if any, and its size in bytes. The importing
// unit is a oneshot: while it starts, its process is the one that imports, and the last argument is
// the file.
func unitsSay(names []string) string {
	script := `echo "$(systemctl is-active ` + strings.Join(names, " ") + ` | tr '\n' ' ')|`
	if slices.Contains(names, stack.ImagesService) {
		script += `$(for p in $(systemctl show --value -p MainPID -p ControlPID ` + stack.ImagesService + `); do ` +
			`[ -e /proc/$p/cmdline ] && f=$(tr '\0' '\n' </proc/$p/cmdline | tail -n 1) && [ -f "$f" ] && echo "$f $(stat -L -c %s "$f")"; done)`
	}
	return script + `"`
}

// unitsReport is a writer of unitsSay's lines that reports them in words.
type unitsReport struct {
	names  []string
	report func(what string)
	rest   []byte
}

func newUnitsReport(units map[string]stack.Unit, report func(what string)) *unitsReport {
	return &unitsReport{names: slices.Sorted(maps.Keys(units)), report: report}
}

// Write implements io.Writer. It does not fail: a report must not fail a run.
func (r *unitsReport) Write(p []byte) (int, error) {
	r.rest = append(r.rest, p...)
	for {
		line, rest, whole := bytes.Cut(r.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		r.rest = rest
		if what := r.words(string(line)); what != "" {
			r.report(what)
		}
	}
}

// words returns a line in words; "" for one that is not understood, for example while systemd does
// not answer.
func (r *unitsReport) words(line string) string {
	text, imported, _ := strings.Cut(line, "|")
	states := strings.Fields(text)
	if len(states) != len(r.names) {
		return ""
	}
	if fields := strings.Fields(imported); len(fields) == 2 {
		if size, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			return fmt.Sprintf("importing %s, %.0f MB", strings.TrimSuffix(path.Base(fields[0]), ".tar"), float64(size)/1e6)
		}
	}
	var waiting []string
	for i, state := range states {
		if state != "active" {
			waiting = append(waiting, strings.TrimSuffix(r.names[i], ".service")+" ("+state+")")
		}
	}
	more := ""
	if n := len(waiting) - maxWaiting; n > 0 {
		waiting, more = waiting[:maxWaiting], fmt.Sprintf(" and %d more", n)
	}
	if len(waiting) == 0 {
		return "all units are active; waiting for the container runtime, its network and the balancer"
	}
	return "waiting for " + strings.Join(waiting, ", ") + more
}
