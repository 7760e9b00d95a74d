package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
)

// How long a step waits for what it has set in motion. They are generous: they only bound what never ends.
const (
	gateTimeout    = 5 * time.Minute
	compareTimeout = 10 * time.Second
	detailTimeout  = 10 * time.Second
)

// converge makes one host equal to its desired state, given the changes that Diff found for it: files first, then what
// reads them. Killed at any point it leaves a state from which the next Diff goes on: nothing is remembered elsewhere.
//
// With wait, it returns once every unit it started says that it is up; without, once systemd has its orders.
func converge(ctx context.Context, h host.Host, want, have HostState, changes []Change, wait bool) error {
	deletes := named(changes, FileChange, Delete)
	var files []host.File
	for _, c := range changes {
		if c.Kind == FileChange && c.Action != Delete && c.Name != initializedFile && c.Name != ownedFile {
			files = append(files, hostFile(c.Name, want.Files[c.Name]))
		}
	}
	if len(files)+len(deletes) > 0 {
		// Ownership comes first, so that nothing that is put down or taken away can be orphaned.
		all := regular(owned(union(want.Files, have.Files)), false, "")
		files = append([]host.File{hostFile(ownedFile, all)}, files...)
	} else if slices.ContainsFunc(changes, func(c Change) bool { return c.Name == ownedFile }) {
		files = []host.File{hostFile(ownedFile, want.Files[ownedFile])}
	}
	if len(files) > 0 {
		if err := h.Write(ctx, files); err != nil {
			return err
		}
	}
	if script := convergeScript(changes, wait); script != "" {
		if _, err := h.Run(ctx, host.Cmd{Script: script}); err != nil {
			return fmt.Errorf("bring up units on %s: %w", h.Name(), err)
		}
	}
	if len(deletes) > 0 {
		if err := h.Write(ctx, []host.File{hostFile(ownedFile, want.Files[ownedFile])}); err != nil {
			return fmt.Errorf("record what slipway owns: %w", err)
		}
	}
	return nil
}

// convergeScript is everything after the files, in one session: kernel, units, deletions. Empty when there is nothing.
func convergeScript(changes []Change, wait bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	if len(changes) == 0 || len(changes) == 1 && changes[0].Name == initializedFile {
		return ""
	}
	line("set -e")
	if touches(changes, "/etc/modules-load.d/") {
		// What is built in or missing is not an error here: containers share a kernel they may not load into.
		line("while read -r m; do case $m in '#'*|'') ;; *) modprobe -q \"$m\" 2>/dev/null || true ;; esac; done </etc/modules-load.d/slipway.conf")
	}
	if touches(changes, "/etc/sysctl.d/") || len(named(changes, SysctlChange, Update)) > 0 {
		line("sysctl --quiet --load=/etc/sysctl.d/90-slipway.conf 2>/dev/null || sysctl -e -q -p /etc/sysctl.d/90-slipway.conf")
	}
	if gone := named(changes, UnitChange, Delete); len(gone) > 0 {
		line("systemctl disable --now %s", strings.Join(gone, " "))
	}
	for _, p := range named(changes, FileChange, Delete) {
		line("rm -f -- '%s'", strings.ReplaceAll(p, "'", `'\''`))
	}
	if touches(changes, unitDir) {
		line("systemctl daemon-reload")
	}
	block := "--no-block"
	if wait {
		block = ""
	}
	start := append(named(changes, UnitChange, Create), named(changes, UnitChange, Update)...)
	if len(start) > 0 {
		line("systemctl enable --quiet %s", strings.Join(start, " "))
	}
	if all := append(start, named(changes, UnitChange, Restart)...); len(all) > 0 {
		// A unit that failed, or that sits in its restart delay, begins anew. One order: systemd knows the sequence.
		line("systemctl reset-failed %s 2>/dev/null || true", strings.Join(all, " "))
		line("systemctl %s restart %s", block, strings.Join(all, " "))
	}
	return b.String()
}

// unitsUp waits on a host until all its units are active. It is one session; ctx bounds it, and on expiry the error
// says which units were not up and what they last logged.
func unitsUp(ctx context.Context, h host.Host, units map[string]Unit) error {
	names := strings.Join(slices.Sorted(maps.Keys(units)), " ")
	// is-active prints a line a unit and succeeds when any is: the others are what is waited for.
	_, err := h.Run(ctx, host.Cmd{Script: "while systemctl is-active " + names + " | grep -qvx active; do sleep 0.1; done"})
	if err == nil {
		return nil
	}
	detail, cancel := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
	defer cancel()
	script := "for u in " + names + "; do systemctl is-active --quiet $u && continue; " +
		"echo \"$u is $(systemctl is-active $u):\"; journalctl -q --no-pager -n 5 -o cat -u $u; done"
	last, detailErr := h.Run(detail, host.Cmd{Script: script})
	if detailErr != nil {
		return fmt.Errorf("wait for the units of %s: %w", h.Name(), err)
	}
	return fmt.Errorf("wait for the units of %s: %w\n%s", h.Name(), err, last.Stdout)
}

func hostFile(path string, f File) host.File {
	return host.File{Path: path, Mode: f.Mode, Owner: f.Owner, Content: f.Content}
}

// named gives the names of the changes of a kind with an action.
func named(changes []Change, kind Kind, action Action) []string {
	var names []string
	for _, c := range changes {
		if c.Kind == kind && c.Action == action {
			names = append(names, c.Name)
		}
	}
	return names
}

func touches(changes []Change, prefix string) bool {
	return slices.ContainsFunc(changes, func(c Change) bool {
		return c.Kind == FileChange && strings.HasPrefix(c.Name, prefix)
	})
}

// union are the wanted files and those that slipway once put there.
func union(want, have map[string]File) map[string]File {
	all := maps.Clone(want)
	for p, f := range have {
		if f.Why == ownedByUs {
			all[p] = f
		}
	}
	return all
}
