package provision

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway.dev/slipway/provision/host"
)

// noFile is the Sum of a program whose link leads to nothing.
const noFile = "none"

// programsWords give observe.sh the programs to look into, one a line, and what is known of files of the operator's
// computer: where a machine mounts them they are the very same, and nobody reads them twice.
func programsWords(desired HostState) (paths, known string) {
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
func (o *observation) contents(desired HostState) {
	if !o.looked {
		return
	}
	for name, want := range desired.Files {
		f, there := o.state.Files[name]
		if !want.Program || !there || f.Mode.Type() != want.Mode.Type() || f.Mode.Type() == fs.ModeSymlink && f.Digest != want.Digest {
			continue // it leads elsewhere, and is about to be changed
		}
		id, leads := o.identities[name]
		switch sum := o.sums[id]; {
		case !leads:
			f.Sum = noFile
		case sum != "":
			f.Sum = sum
		case id == want.Identity:
			f.Sum = want.Sum
		}
		o.state.Files[name] = f
	}
}

// whyProgram says what is wrong with what a program's link leads to; empty for nothing, or where it is not known.
func whyProgram(w, h File) string {
	switch {
	case !w.Program || h.Sum == "" || h.Sum == w.Sum:
		return ""
	case h.Sum == noFile:
		return "leads to nothing"
	}
	return fmt.Sprintf("has other content than the bundle's: its SHA-256 begins with %.12s, should with %.12s", h.Sum, w.Sum)
}

// foreignProgram gives a program that a unit runs, and whose content is not the bundle's.
func foreignProgram(w Unit, want, have map[string]File) string {
	for _, p := range w.Reads {
		if whyProgram(want[p], have[p]) != "" {
			return p
		}
	}
	return ""
}

// uncover takes mounts away that lie over what programs lead to. Where there are none, umount fails and changes nothing.
func uncover(changes []Change) []string {
	var script []string
	for _, p := range named(changes, ProgramChange, Update) {
		script = append(script, `while umount -- "$(readlink -f `+host.Quote(p)+`)" 2>/dev/null; do :; done`)
	}
	return script
}

// blind gives a program whose link is as it should be and leads to nothing: the machine does not see the bundle.
func (h HostState) blind() string {
	for _, name := range slices.Sorted(maps.Keys(h.Files)) {
		if f := h.Files[name]; f.Sum == noFile && f.Mode.Type() == fs.ModeSymlink {
			return name
		}
	}
	return ""
}
