package templates

// Unit is a systemd service (systemd.service(5)).
type Unit struct {
	Description string
	// Type is "notify", "simple" or "oneshot".
	Type string
	// After orders the start and pulls the units in (Wants=), but lets this one live when they stop.
	After []string
	// Pre are commands run before Exec.
	Pre []string
	// Exec is the program's absolute path, Args its arguments, each printed on a line of its own.
	Exec string
	Args []string
	// Begin are further arguments, which the program ignores if it has data. They are no part of Inputs: a change of them
	// is no reason to restart it.
	Begin []string
	// Env are "NAME=value" pairs.
	Env []string
	// Delegate hands the unit its own cgroup subtree (container runtimes).
	Delegate bool
	// KillProcess ends only the main process on stop, so that containers outlive their runtime.
	KillProcess bool
	// Slice is the unit's slice (systemd.slice(5)); empty is system.slice.
	Slice string
	// User is the system user, and its group, that a sealed unit runs as; empty is root. It reads all files, since keys are
	// root's, and writes its own: State and Logs are made its own before each start, whoever has put something there.
	User string
	// Sandbox is what the unit may not do.
	Sandbox Sandbox
	// State and Logs are directories below /var/lib and /var/log that are the unit's own, 0700: systemd makes them.
	State, Logs string
	// OOMScoreAdjust protects the unit; 0 leaves the default.
	OOMScoreAdjust int
	// Inputs is the digest of all that the unit reads and cannot reload. It is put into the environment, where
	// observation reads it back from the running process.
	Inputs string
	// Stamp makes a oneshot remain active after it has exited, and leave its Inputs in /run/slipway, since no process
	// remains to be asked. A oneshot without one is for a timer.
	Stamp string
}

// Sandbox is how much of the host a unit is kept from (systemd.exec(5), "Sandboxing").
type Sandbox int

const (
	// Open units need the host: what they start are containers, with mounts and rights of their own.
	Open Sandbox = iota
	// Fenced units set up the host's network: they get no new privileges and do not see homes.
	Fenced
	// Sealed units read their configuration, answer on the network, and write below /var: they see the rest read-only, and have
	// no capability but to read and write files of other users, such as keys and sockets that the spec's flags name; those
	// that run as a user of their own only to read them.
	Sealed
)

// Fenced says whether a unit has at least that sandbox.
func (u Unit) Fenced() bool { return u.Sandbox >= Fenced }

// Sealed says whether a unit has the whole sandbox.
func (u Unit) Sealed() bool { return u.Sandbox >= Sealed }

// RenderUnit gives the text of a unit file.
func RenderUnit(u Unit) ([]byte, error) { return render("unit.service", u) }
