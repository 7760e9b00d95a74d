package converge

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
	"slipway.dev/slipway/templates"
)

// removeVersions removes the files that slipway recorded as its own of versions that nothing uses,
// and the directories that become empty. The host is asked again what uses them: a version in use
// stays, and stays recorded.
func (r *Runner) removeVersions(ctx context.Context, s plan.Step) error {
	h, want := r.Hosts[s.Host], r.Desired.Hosts[s.Host]
	stay := r.Observed.Hosts[s.Host].Facts.Superseded
	var remove []stack.Version
	for _, dir := range named(s.Changes, plan.VersionChange, plan.Delete) {
		i := slices.IndexFunc(stay, func(v stack.Version) bool { return v.Dir == dir })
		if i < 0 {
			return fmt.Errorf("remove %s from %s: it was not observed there", dir, s.Host)
		}
		remove = append(remove, stay[i])
	}
	result, err := h.Run(ctx, host.Cmd{Script: removeScript(remove), Exclusive: true})
	if err != nil {
		return fmt.Errorf("remove old versions from %s: %w", s.Host, err)
	}
	users := map[string]string{}
	for line := range strings.Lines(string(result.Stdout)) {
		if dir, who, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok {
			users[dir] = who
			r.tell(fmt.Sprintf("%s stays on %s: it is used by %s", dir, s.Host, who))
		}
	}
	stay = slices.DeleteFunc(slices.Clone(stay), func(v stack.Version) bool {
		return users[v.Dir] == "" && slices.ContainsFunc(remove, func(gone stack.Version) bool { return gone.Dir == v.Dir })
	})
	record := stack.Regular(stack.OwnershipWith(want.Files, stay), false, "")
	if err := h.Write(ctx, []host.File{hostFile(stack.OwnedFile, record)}); err != nil {
		return fmt.Errorf("record what slipway owns: %w", err)
	}
	return nil
}

// removeScript removes versions, and prints the directory of each that is in use, a tab, and what
// uses it.
func removeScript(versions []stack.Version) string {
	var files []string
	var removals strings.Builder
	for _, v := range versions {
		sorted := slices.Sorted(maps.Keys(v.Files))
		files = append(files, sorted...)
		removals.WriteString("remove " + host.Quote(v.Dir))
		for _, p := range sorted {
			removals.WriteString(" " + host.Quote(p))
		}
		removals.WriteByte('\n')
	}
	return "# remove old versions\nset -e\nOLD=" + host.Quote(strings.Join(files, "\n")) + "\nOWN=\n" + templates.VersionsScript() + `
[ -n "$(find -L /proc/$$/exe -maxdepth 0 -printf '%D:%i')" ] || { echo "find cannot tell what runs: nothing was removed" >&2; exit 1; }
users=$(old_users | sort -u)
remove() {
  dir=$1
  shift
  user=$(printf '%s\n' "$users" | grep -F -e "$dir$tab" | head -n 1 | cut -f3)
  if [ -n "$user" ]; then printf '%s\t%s\n' "$dir" "$user"; return; fi
  rm -f -- "$@"
  for d in "$dir/bin" "$dir/images" "$dir"; do [ ! -d "$d" ] || rmdir --ignore-fail-on-non-empty -- "$d"; done
}
tab=$(printf '\t')
` + removals.String() + "sync -- " + host.Quote(path.Clean(stack.ProgramDir)) + "\n"
}
