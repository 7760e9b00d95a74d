package converge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

// How long a step may take. These are generous: they only bound what would never end.
const (
	detailTimeout = 10 * time.Second
	// finishTime is how long a step that changes something may continue after the run was
	// cancelled.
	finishTime = 30 * time.Second
)

// converge makes one host equal to its desired state, given the changes that Diff found for it:
// files first, then what reads them. If it is killed at any point, the next Diff continues from the
// state of the host: nothing is recorded in another place.
//
// On a first start it returns once systemd has its orders; otherwise once every unit that it
// started reports that it is up.
func converge(ctx context.Context, h host.Host, want, have stack.HostState, changes []plan.Change, first bool) error {
	if script := makeAccounts(changes); script != "" {
		if _, err := h.Run(ctx, host.Cmd{Script: script, Exclusive: true}); err != nil {
			return fmt.Errorf("create system users on %s: %w", h.Name(), err)
		}
	}
	place := placing(changes, want)
	files, more := writing(changes, want, have, len(place) > 0)
	if err := placePrograms(ctx, h, want, have, place); err != nil { // before links lead to them
		return err
	}
	if len(files) > 0 {
		if err := h.Write(ctx, files); err != nil {
			return err
		}
	}
	if script := convergeScript(changes, want, first); script != "" {
		if _, err := h.Run(ctx, host.Cmd{Script: script, Exclusive: true}); err != nil {
			return fmt.Errorf("bring up units on %s: %w", h.Name(), err)
		}
	}
	if more {
		if err := h.Write(ctx, []host.File{hostFile(stack.OwnedFile, want.Files[stack.OwnedFile])}); err != nil {
			return fmt.Errorf("record what slipway owns: %w", err)
		}
	}
	return nil
}

// writing returns the files to write, the list of what slipway owns first; more means that this
// list has, until the removals are done, more than is wanted. places means that programs are placed
// as well.
func writing(changes []plan.Change, want, have stack.HostState, places bool) (files []host.File, more bool) {
	for _, c := range changes {
		if c.OnDisk() && c.Action != plan.Delete && c.Name != stack.OwnedFile && !want.Files[c.Name].Copied() {
			files = append(files, hostFile(c.Name, want.Files[c.Name]))
		}
	}
	if len(files) > 0 || len(deleted(changes)) > 0 || places {
		// Ownership comes first, so that no file that is written or removed can be orphaned.
		all := stack.Regular(stack.Ownership(stack.Union(want.Files, have.Owned)), false, "")
		return append([]host.File{hostFile(stack.OwnedFile, all)}, files...), all.Digest != want.Files[stack.OwnedFile].Digest
	}
	if slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Name == stack.OwnedFile }) {
		return []host.File{hostFile(stack.OwnedFile, want.Files[stack.OwnedFile])}, false
	}
	return nil, false
}

// convergeScript is everything after the files, in one session: kernel, units, deletions. It is
// empty if there is nothing to do.
func convergeScript(changes []plan.Change, want stack.HostState, first bool) string {
	if !slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Name != stack.OwnedFile }) {
		return ""
	}
	script := prepare(changes, want, first)
	if units := named(changes, plan.UnitChange, plan.Delete); len(units) > 0 {
		// If the step is repeated, all of it may be done.
		all := strings.Join(units, " ")
		script = append(script, "systemctl disable --now "+all+
			" || for u in "+all+"; do [ ! -e "+stack.UnitDir+"$u ] && ! systemctl is-active --quiet $u || exit 1; done")
	}
	// Unit files are removed before systemd reloads; the rest only when nothing runs with it any
	// more.
	gone, late := removals(changes)
	script = append(script, gone...)
	start := append(named(changes, plan.UnitChange, plan.Create), named(changes, plan.UnitChange, plan.Update)...)
	restart := named(changes, plan.UnitChange, plan.Restart)
	// Even if no unit file is written: an earlier run may have been killed after it had written
	// one.
	if touches(changes, stack.UnitDir) || len(start)+len(restart) > 0 {
		script = append(script, "systemctl daemon-reload")
	}
	restart = append(restart, importer(changes, start, restart)...)
	if all := slices.Concat(start, restart); len(all) > 0 {
		script = append(script, "systemctl enable --quiet "+strings.Join(all, " "))
	}
	block := ""
	if first {
		block = "--no-block "
	}
	// One command for all: systemd knows the order. A failed unit starts again.
	if len(start) > 0 {
		script = append(script,
			"systemctl reset-failed "+strings.Join(start, " ")+" 2>/dev/null || true",
			"systemctl "+block+"start "+strings.Join(start, " ")+" || "+stillTrying(start))
	}
	for _, row := range stack.Units() {
		if !first && slices.Contains(restart, row.Name) && slices.Contains(restart, row.Needs) {
			script = append(script, "systemctl stop "+row.Name)
		}
	}
	// Only this bundle uses these image names, so that they exist before anything runs that needs
	// them.
	if i := slices.Index(restart, stack.ImagesService); i >= 0 {
		script = append(script, "systemctl restart "+stack.ImagesService)
		restart = slices.Delete(restart, i, i+1)
	}
	if len(restart) > 0 {
		script = append(script, "systemctl "+block+"restart "+strings.Join(restart, " ")+" || "+stillTrying(restart))
	}
	script = append(script, late...)
	if len(script) == 1 { // files that nothing has to be told of
		return ""
	}
	return strings.Join(script, "\n") + "\n"
}

// removals returns the commands that remove unit files, and those that remove others.
func removals(changes []plan.Change) (units, others []string) {
	for _, p := range deleted(changes) {
		command := "rm -f -- " + host.Quote(p)
		if strings.HasPrefix(p, stack.UnitDir) {
			units = append(units, command)
		} else {
			others = append(others, command)
		}
	}
	return units, others
}

// importer returns the unit that imports images, if it has to and is not yet among the units that
// start or restart.
func importer(changes []plan.Change, start, restart []string) []string {
	lacking := named(changes, plan.ImageChange, plan.Create)
	if len(lacking) == 0 || slices.Contains(start, stack.ImagesService) || slices.Contains(restart, stack.ImagesService) {
		return nil
	}
	return []string{stack.ImagesService}
}

// prepare is the part before any unit is changed.
func prepare(changes []plan.Change, want stack.HostState, first bool) []string {
	script := append([]string{"set -e"}, uncover(changes)...)
	if touches(changes, "/etc/modules-load.d/") || len(named(changes, plan.ModuleChange, plan.Create)) > 0 {
		script = append(script, loadModules)
	}
	if touches(changes, "/etc/sysctl.d/") || len(named(changes, plan.SysctlChange, plan.Update)) > 0 {
		script = append(script, loadSysctls)
	}
	return append(script, beforeEtcd(changes, want, first)...)
}

// stillTrying ignores an error of systemctl for a unit whose first attempt has failed, while
// systemd retries (Restart=always): the following gate shows the result.
func stillTrying(units []string) string {
	return "for u in " + strings.Join(units, " ") + "; do case $(systemctl is-active $u) in active|activating|reloading) ;; *) exit 1 ;; esac; done"
}

// runtimeSays prints the runtime's status from crictl, on one line.
const runtimeSays = `crictl info 2>/dev/null | tr -d ' \n'`

// balancerSays prints which configuration the host's balancer uses.
const balancerSays = `systemctl show --value -p StatusText ` + stack.BalancerService

const (
	// A built-in or missing module is not an error: containers share a kernel into which they may
	// not load modules.
	loadModules = `while read -r m; do case $m in '#'*|'') ;; *) modprobe -q "$m" 2>/dev/null || true ;; esac; done </etc/modules-load.d/slipway.conf`
	// systemd-sysctl supports the leading dash; sysctl of procps older than 3.3.17 does not.
	loadSysctls = "/usr/lib/systemd/systemd-sysctl 90-slipway.conf 2>/dev/null || /lib/systemd/systemd-sysctl 90-slipway.conf"
)

// unitsUp waits on a host until all its units are active and the container runtime reports that it
// and its network are ready; also are shell tests that have to succeed as well. It is one session;
// ctx bounds it, and on expiry the error has the units that were not up, their last log lines, and
// the runtime's status. Meanwhile report receives every few seconds which units it waits for.
func unitsUp(ctx context.Context, h host.Host, units map[string]stack.Unit, report func(what string), also ...string) error {
	says := newUnitsReport(units, report)
	names := strings.Join(says.names, " ")
	// is-active prints one line per unit, or none if systemd does not answer.
	up := []string{fmt.Sprintf(`[ "$(systemctl is-active %s | grep -cx active)" = %d ]`, names, len(units))}
	up = append(up, also...)
	for unit, condition := range map[string]string{"containerd.service": "RuntimeReady", "flanneld.service": "NetworkReady"} {
		if _, ok := units[unit]; ok {
			up = append(up, runtimeSays+` | grep -q '"status":true,"type":"`+condition+`"'`)
		}
	}
	_, err := h.Run(ctx, host.Cmd{Stdout: says, Script: fmt.Sprintf("until %s; do sleep 0.1; n=$((n+1)); [ $((n%%%d)) != 0 ] || %s; done",
		strings.Join(up, " && "), unitsSayEvery, unitsSay(says.names))})
	if err == nil {
		return nil
	}
	detail, cancel := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
	defer cancel()
	script := "for u in " + names + "; do systemctl is-active --quiet $u && continue; " +
		"echo \"$u is $(systemctl is-active $u):\"; journalctl -q --no-pager -n 5 -o cat -u $u; done; " +
		balancerSays + `; echo; ` + runtimeSays + ` | grep -o '"conditions":.*'; true`
	last, detailErr := h.Run(detail, host.Cmd{Script: script})
	if detailErr != nil {
		return fmt.Errorf("wait for the units of %s: %w", h.Name(), err)
	}
	return fmt.Errorf("wait for the units of %s: %w\n%s", h.Name(), err, last.Stdout)
}

func hostFile(path string, f stack.File) host.File {
	return host.File{Path: path, Mode: f.Mode, Owner: f.Owner, Content: f.Content}
}

// named returns the names of the changes of a kind with an action.
func named(changes []plan.Change, kind plan.Kind, action plan.Action) []string {
	var names []string
	for _, c := range changes {
		if c.Kind == kind && c.Action == action {
			names = append(names, c.Name)
		}
	}
	return names
}

// deleted returns the paths to delete.
func deleted(changes []plan.Change) []string {
	return slices.Concat(named(changes, plan.FileChange, plan.Delete), named(changes, plan.ProgramChange, plan.Delete))
}

func touches(changes []plan.Change, prefix string) bool {
	return slices.ContainsFunc(changes, func(c plan.Change) bool {
		return c.OnDisk() && strings.HasPrefix(c.Name, prefix)
	})
}
