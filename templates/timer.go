package templates

// Timer is a systemd timer (systemd.timer(5)).
type Timer struct {
	Description string
	// Service is the unit that it starts, a oneshot without a Stamp.
	Service string
	// Every is the time from the end of one run to the next, as systemd writes it: "1h".
	Every string
}

// RenderTimer returns the text of a unit file.
func RenderTimer(t Timer) ([]byte, error) { return render("unit.timer", t) }
