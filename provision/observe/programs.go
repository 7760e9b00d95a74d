package observe

import (
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/stack"
)

// programsWords tells observe.sh which programs to check, one per line, and the known digests of
// files on the operator's computer: if a machine mounts these, they are identical, and need not be
// read twice.
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

// contents sets the digest of every observed program. If the host has not reported it, it stays
// unknown.
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
			// It has another type or target, and will be changed.
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
