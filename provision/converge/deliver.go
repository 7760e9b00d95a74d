package converge

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/plan"
	"slipway.dev/slipway/provision/stack"
)

const (
	// deliveryDir is where programs arrive on a host: below it, each has the path that it will have
	// below its parent. Nothing runs from there but slipway, to unpack and to serve others. It is in
	// the file system of the programs, so that a rename puts them in place, and goes once all are.
	deliveryDir = stack.ProgramDir + ".delivery"
	// partsDir has what arrives compressed (delivery.Blob.Name), until all programs are in place.
	partsDir = deliveryDir + "/.parts"
	// keysDir is the beginning of directories for the keys of one transfer between hosts.
	keysDir = "/run/slipway-delivery."
)

const (
	// stallTimeout is how long a host may take nothing of what is sent to it, or to verify it.
	stallTimeout = 5 * time.Minute
	// room is how many bytes have to stay free: hosts are copied to at the same time, and etcd ends
	// where it finds no space.
	room = 1 << 30
)

// deliver brings to a host what it lacks of the bundle, and verifies it there: what has arrived
// stays when the rest does not. It puts nothing in place, so that all programs change at one time,
// in the step that restarts what runs them.
func (r *Runner) deliver(ctx context.Context, s plan.Step) error {
	return r.couriers().bring(ctx, s.Host, lacking(r.Desired.Hosts[s.Host], r.Observed.Hosts[s.Host]))
}

// found is what earlier runs have left on a host.
type found struct {
	arrived map[string]bool // programs that are whole, by their path
	parts   map[string]part // compressed programs, perhaps not whole, by file name
	ssh     bool            // it has OpenSSH's client
}

// part is what a host has of a compressed program: its bytes, and their SHA-256.
type part struct {
	size int64
	sum  string
}

// prepareDelivery returns what earlier runs have copied, and refuses to copy the rest if the host has
// no room for it.
func (r *Runner) prepareDelivery(ctx context.Context, name string, want map[string]stack.File) (found, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stallTimeout, fmt.Errorf("the host has not answered for %s", stallTimeout))
	defer cancel()
	f, err := leftovers(ctx, r.Hosts[name], want)
	if err != nil {
		return f, err
	}
	var size int64
	for p, w := range want {
		if !f.arrived[p] {
			size += w.Size + w.Size/packedShare // both forms are there for a while
		}
	}
	if size == 0 {
		return f, nil
	}
	return f, checkRoom(ctx, r.Hosts[name], size)
}

// checkRoom refuses to copy so many bytes to a host that less than room stays free. It passes if df
// does not know.
func checkRoom(ctx context.Context, h host.Host, size int64) error {
	script := "# look how much can be copied\ndir=" + host.Quote(path.Clean(stack.ProgramDir)) + "\n" +
		"while [ ! -d \"$dir\" ]; do dir=$(dirname \"$dir\"); done\ndf -B1 --output=avail \"$dir\" 2>/dev/null | tail -n 1\n"
	result, err := h.Run(ctx, host.Cmd{Script: script})
	if err != nil {
		return fmt.Errorf("look how much can be copied to %s: %w", h.Name(), err)
	}
	free, err := strconv.ParseInt(strings.TrimSpace(string(result.Stdout)), 10, 64)
	if err != nil || free >= size+room {
		return nil
	}
	return fmt.Errorf("%s: %s are free below %s, and %s have to be copied there; nothing was copied: %s have to stay free, for etcd and others that use the "+
		"disk. Free space there, then run `slipway apply` again", h.Name(), gib(free), stack.ProgramDir, gib(size), gib(room))
}

// lacking are the programs, by path, whose content the host does not have.
func lacking(want, have stack.HostState) map[string]stack.File {
	lacks := map[string]stack.File{}
	for p, w := range want.Files {
		if h := have.Files[p]; w.Copied() && (h.Digest != w.Digest || !h.Mode.IsRegular()) {
			lacks[p] = w
		}
	}
	return lacks
}

// arriving is where a program arrives.
func arriving(p string) string {
	return path.Join(deliveryDir, strings.TrimPrefix(p, stack.ProgramDir))
}

// leftovers looks what earlier runs have copied, and removes what is not wanted of it. What is not whole
// becomes another file with the same content: a script of a run that was killed may still append to
// the old one.
func leftovers(ctx context.Context, h host.Host, want map[string]stack.File) (f found, err error) {
	at := map[string]string{} // paths of programs by where they arrive
	var list, keep strings.Builder
	for _, p := range slices.Sorted(maps.Keys(want)) {
		at[arriving(p)] = p
		fmt.Fprintf(&list, "%s  %s\n", want[p].Digest, arriving(p))
		fmt.Fprintf(&keep, " ! -path %s ! -path %s", host.Quote(arriving(p)), host.Quote(partsDir+"/"+want[p].Digest+".*"))
	}
	dir := host.Quote(deliveryDir)
	script := "# look what was copied before\nset -e\numask 077\n! command -v ssh >/dev/null || echo ssh\nrm -rf " + keysDir + "*\n" +
		"[ -d " + dir + " ] || exit 0\n" +
		"find " + dir + " ! -type d" + keep.String() + " -exec rm -f -- {} +\n" +
		"( cd " + host.Quote(partsDir) + " 2>/dev/null || exit 0\nfor f in *; do if [ -f \"$f\" ]; then " +
		"mv -f -- \"$f\" .old; cp -- .old \"$f\"; rm -f .old; echo \"part $(stat -c %s -- \"$f\") $(sha256sum <\"$f\" | cut -d' ' -f1) $f\"; fi; done )\n" +
		"while read -r sum file; do [ ! -f \"$file\" ] || printf 'whole %s %s\\n' \"$(sha256sum <\"$file\" | cut -d' ' -f1)\" \"$file\"; done\n"
	result, err := h.Run(ctx, host.Cmd{Script: script, Stdin: strings.NewReader(list.String()), Exclusive: true})
	if err != nil {
		return f, fmt.Errorf("look what was copied to %s before: %w", h.Name(), err)
	}
	f = found{arrived: map[string]bool{}, parts: map[string]part{}}
	for line := range strings.Lines(string(result.Stdout)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && words[0] == "ssh":
			f.ssh = true
		case len(words) == 4 && words[0] == "part":
			size, _ := strconv.ParseInt(words[1], 10, 64) // of stat
			f.parts[words[3]] = part{size, words[2]}
		case len(words) == 3 && words[0] == "whole":
			if p := at[words[2]]; want[p].Digest == words[1] {
				f.arrived[p] = true
			}
		}
	}
	return f, nil
}

// placing are the programs whose content, mode or owner changes on a host that does not see the
// bundle.
func placing(changes []plan.Change, want stack.HostState) (programs []plan.Change) {
	for _, c := range changes {
		if c.Kind == plan.ProgramChange && c.Action != plan.Delete && want.Files[c.Name].Copied() {
			programs = append(programs, c)
		}
	}
	return programs
}

// placePrograms puts programs in place that were copied. What slipway owns is recorded before: of
// what it owned it forgets nothing, and what is to come it does not own yet.
func placePrograms(ctx context.Context, h host.Host, want, have stack.HostState, programs []plan.Change) error {
	if len(programs) == 0 {
		return nil
	}
	placed := map[string]stack.File{}
	for _, c := range programs {
		placed[c.Name] = want.Files[c.Name]
	}
	owned := stack.Regular(stack.Ownership(stack.Union(placed, have.Owned)), false, "")
	if err := h.Write(ctx, []host.File{hostFile(stack.OwnedFile, owned)}); err != nil {
		return err
	}
	if _, err := h.Run(ctx, host.Cmd{Script: placeScript(programs, placed), Exclusive: true}); err != nil {
		return fmt.Errorf("put programs in place on %s: %w", h.Name(), err)
	}
	return nil
}

// placeScript moves what was copied to its place, and gives all programs the mode and owner that
// they should have. It can be repeated: what was moved before is verified.
func placeScript(programs []plan.Change, files map[string]stack.File) string {
	script := append([]string{"# put programs in place", "set -e"}, uncover(programs)...)
	var dirs []string
	for _, c := range programs {
		f, at, dir := files[c.Name], host.Quote(c.Name), host.Quote(path.Dir(c.Name))
		dirs = append(dirs, dir)
		if c.Copy > 0 {
			from := host.Quote(arriving(c.Name))
			script = append(script, "mkdir -p -- "+dir,
				fmt.Sprintf("if [ -f %[1]s ]; then mv -f -T -- %[1]s %[2]s; else [ \"$(sha256sum <%[2]s)\" = '%[3]s  -' ]; fi", from, at, f.Digest))
		}
		script = append(script, "chown "+f.Owner+" -- "+at, fmt.Sprintf("chmod %04o -- %s", f.Mode.Perm(), at))
	}
	slices.Sort(dirs)
	script = append(script,
		"sync -- "+strings.Join(slices.Compact(dirs), " "), // so that they exist after a power failure
		"rm -rf -- "+host.Quote(deliveryDir))
	return strings.Join(script, "\n") + "\n"
}
