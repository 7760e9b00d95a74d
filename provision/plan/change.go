package plan

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/provision/stack"
)

// Action is what a change does, printed as terraform prints it.
type Action rune

// The actions. Restart is for a unit that runs with outdated inputs; Await for one that is still
// starting.
const (
	Create  Action = '+'
	Update  Action = '~'
	Delete  Action = '-'
	Restart Action = '^'
	Await   Action = '.'
)

var actionNames = map[Action]string{Create: "create", Update: "update", Delete: "delete", Restart: "restart", Await: "await"}

// MarshalText returns the action's name, for JSON.
func (a Action) MarshalText() ([]byte, error) {
	name, ok := actionNames[a]
	if !ok {
		return nil, fmt.Errorf("no such action: %q", rune(a))
	}
	return []byte(name), nil
}

// UnmarshalText reads an action's name.
func (a *Action) UnmarshalText(text []byte) error {
	for action, name := range actionNames {
		if name == string(text) {
			*a = action
			return nil
		}
	}
	return fmt.Errorf("no such action: %q", text)
}

// Kind is the kind of thing that a change is about.
type Kind string

// The kinds of changes. Programs are files from the bundle, a version is the directory of one that is
// no longer wanted. The last five are the cluster's: a
// node's labels and taints, the node itself (registered, ready, with its version), an etcd member,
// an object in the API.
const (
	FileChange    Kind = "file"
	ProgramChange Kind = "program"
	UnitChange    Kind = "unit"
	SysctlChange  Kind = "sysctl"
	ModuleChange  Kind = "module"
	AccountChange Kind = "account"
	ImageChange   Kind = "image"
	VersionChange Kind = "version"
	NodeChange    Kind = "node"
	LabelChange   Kind = "label"
	TaintChange   Kind = "taint"
	MemberChange  Kind = "member"
	ObjectChange  Kind = "object"
)

// onHost reports whether a change of the kind is carried out on a host; the others are in the API
// or in etcd.
func (k Kind) onHost() bool {
	switch k {
	case FileChange, ProgramChange, UnitChange, SysctlChange, ModuleChange, AccountChange, ImageChange, VersionChange:
		return true
	default:
		return false
	}
}

// Cause is the reason for a difference in a form for programs.
type Cause string

// The causes. Drift is a change on a host or in the API that slipway did not make. Wanted is
// everything else: the spec, the bundle, a certificate or slipway itself requires something that it
// did not require before.
const (
	Drift  Cause = "drift"
	Wanted Cause = "wanted"
)

// Change is one difference between desired and observed state: pure data, without contents.
type Change struct {
	// Host is the node's name; empty for the cluster as a whole.
	Host   string `json:"host,omitempty"`
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"` // the path, unit, sysctl, label, ...
	Action Action `json:"action"`
	// From and To are digests of files, targets of links, values of sysctls and labels; empty if
	// there is none.
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Mode   string `json:"mode,omitempty"` // of a file that will be there, in octal
	Secret bool   `json:"secret,omitempty"`
	// Copy is how many bytes of a program have to be copied to the host; 0 if the host mounts the
	// bundle or has the content.
	Copy int64 `json:"copy,omitempty"`
	// Frees is how many bytes of the host's disk a removed version took; 0 if it was mounted.
	Frees  int64  `json:"frees,omitempty"`
	Cause  Cause  `json:"cause"`
	Reason string `json:"reason"`
}

func (c Change) String() string {
	text := fmt.Sprintf("%c %s %s (%s)", c.Action, c.Kind, c.Name, c.Reason)
	if c.Host == "" {
		return text
	}
	return c.Host + ": " + text
}

// Bookkeeping reports whether the change is of slipway's own list of the files that it owns, which
// follows all other changes.
func (c Change) Bookkeeping() bool { return c.Name == stack.OwnedFile }

// RemovesVersion reports whether the change removes an old version of programs from a host.
func (c Change) RemovesVersion() bool { return c.Kind == VersionChange }

// isServed reports whether the change is of a certificate that an endpoint already serves.
func isServed(c Change) bool {
	return c.Kind == FileChange && c.Action == Update && slices.ContainsFunc(stack.Endpoints(), func(e stack.Endpoint) bool { return e.Cert == c.Name })
}

// asWanted reports whether the change restarts a unit that already runs with the wanted inputs, for
// example because of its age.
func (c Change) asWanted() bool { return c.Kind == UnitChange && c.Action == Restart && c.From == c.To }

// OnDisk reports whether the change is of a path.
func (c Change) OnDisk() bool { return c.Kind == FileChange || c.Kind == ProgramChange }

// Key identifies the thing that a change is about.
func (c Change) Key() string { return c.Host + "\x00" + string(c.Kind) + "\x00" + c.Name }
