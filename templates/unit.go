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
	// Env are "NAME=value" pairs.
	Env []string
	// Delegate hands the unit its own cgroup subtree (container runtimes).
	Delegate bool
	// KillProcess ends only the main process on stop, so that containers outlive their runtime.
	KillProcess bool
	// OOMScoreAdjust protects the unit; 0 leaves the default.
	OOMScoreAdjust int
	// Inputs is the digest of all that the unit reads and cannot reload. It is put into the environment, where
	// observation reads it back from the running process.
	Inputs string
	// Stamp makes a oneshot remain active after it has exited, and leave its Inputs in /run/slipway, since no process
	// remains to be asked. A oneshot without one is for a timer.
	Stamp string
}

// RenderUnit gives the text of a unit file.
func RenderUnit(u Unit) ([]byte, error) { return render("unit.service", u) }
