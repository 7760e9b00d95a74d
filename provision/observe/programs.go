package observe

import (
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// programsWords give observe.sh the programs to look into, one a line, and what is known of files of the operator's
// computer: where a machine mounts them they are the very same, and nobody reads them twice.
func programsWords(desired stack.HostState) (paths, known string) {
	var p, k []string
	for _, name := range slices.Sorted(maps.Keys(desired.Files)) {
		f := desired.Files[name]
		if !f.Program {
			continue
		}
		p = append(p, name)
		if f.Identity != "" {
			k = append(k, f.Identity)
		}
	}
	return host.Quote(strings.Join(p, "\n")), host.Quote(strings.Join(k, "\n"))
}

// contents says of every observed program what is in it. Where the host has not reported, nothing is known.
func (o *observation) contents(desired stack.HostState) {
	if !o.looked {
		return
	}
	for name, want := range desired.Files {
		f, there := o.state.Files[name]
		if !want.Program || !there {
			continue
		}
		id, leads := o.identities[name]
		if f.Mode.IsRegular() {
			f.Digest = o.sums[id]
		}
		switch sum := o.sums[id]; {
		case f.Mode.Type() != want.Mode.Type(), f.Mode.Type() == fs.ModeSymlink && f.Digest != want.Digest:
			// It is, or leads, elsewhere, and is about to be changed.
		case !leads:
			f.Sum = stack.NoFile
		case sum != "":
			f.Sum = sum
		case id == want.Identity:
			f.Sum = want.Sum
		}
		o.state.Files[name] = f
	}
}
