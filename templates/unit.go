package templates

// Unit is a systemd service (systemd.service(5)).
type Unit struct {
	Description string
	// Type is "notify", "simple" or "oneshot".
	Type string
	// After orders the start and pulls the units in (Wants=); if they stop, this unit continues.
	After []string
	// Pre are commands run before Exec.
	Pre []string
	// Exec is the program's absolute path, Args its arguments, each printed on its own line.
	Exec string
	Args []string
	// Begin are further arguments, which the program ignores if it has data. They are no part of
	// Inputs: a change of them is no reason to restart it.
	Begin []string
	// Env are "NAME=value" pairs.
	Env []string
	// Delegate hands the unit its own cgroup subtree (container runtimes).
	Delegate bool
	// KillProcess ends only the main process on stop, so that containers outlive their runtime.
	KillProcess bool
	// Slice is the unit's slice (systemd.slice(5)); empty is system.slice.
	Slice string
	// User is the system user and group of a sealed unit; empty means root. It can read all files,
	// because keys belong to root, and write its own: before each start, it becomes the owner of
	// everything in State and Logs.
	User string
	// Sandbox is the unit's isolation.
	Sandbox Sandbox
	// State and Logs are directories below /var/lib and /var/log that are the unit's own, 0700:
	// systemd makes them.
	State, Logs string
	// OOMScoreAdjust protects the unit; 0 leaves the default.
	OOMScoreAdjust int
	// Inputs is the digest of everything that the unit reads and cannot reload. It is an
	// environment variable, which observation reads from the running process.
	Inputs string
	// Stamp keeps a oneshot active after it has exited, and writes its Inputs to /run/slipway,
	// because there is no process to read them from. A oneshot without Stamp is for a timer.
	Stamp string
}

// Sandbox is the level of isolation from the host (systemd.exec(5), "Sandboxing").
type Sandbox int

const (
	// Open units need the host: what they start are containers, with mounts and rights of their
	// own.
	Open Sandbox = iota
	// Fenced units set up the host's network: they get no new privileges and do not see homes.
	Fenced
	// Sealed units read their configuration, answer on the network, and write below /var: they see
	// the rest read-only, and have no capability but to read and write files of other users, such
	// as keys and sockets that the spec's flags name; those that run as a user of their own only to
	// read them.
	Sealed
)

// Fenced reports whether a unit has at least that sandbox.
func (u Unit) Fenced() bool { return u.Sandbox >= Fenced }

// Sealed reports whether a unit has the complete sandbox.
func (u Unit) Sealed() bool { return u.Sandbox >= Sealed }

// RenderUnit returns the text of a unit file.
func RenderUnit(u Unit) ([]byte, error) { return render("unit.service", u) }
