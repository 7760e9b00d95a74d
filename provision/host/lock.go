package host

import (
	"fmt"
	"strings"
)

// Waits begins the line that a script prints to stderr when it has to wait for the lock; the number of the process that
// holds it follows.
const Waits = "waits for an earlier run of slipway that still works here: process "

// turn is the line that says that the waiting is over.
const turn = "its turn"

// holding is the beginning of a script that holds a lock (flock(2)) until it, and whatever it has started, has ended.
// The file holds the number of the process that has the lock, and is its owner's alone: who may open it could hold it.
func holding(lock string) string {
	if lock == "" {
		return ""
	}
	file := Quote(lock)
	return fmt.Sprintf(`mask=$(umask); umask 077; exec 9>>%[1]s; umask $mask
flock -n 9 || { echo "%[2]s$(cat %[1]s)" >&2 && flock 9 && echo "%[3]s" >&2; } || exit 1
echo $$ >%[1]s
`, file, Waits, turn)
}

// waiting gives the process that a script still waited for when it printed this, or "".
func waiting(stderr []byte) string {
	process := ""
	for line := range strings.Lines(string(stderr)) {
		if holder, ok := strings.CutPrefix(line, Waits); ok {
			process = strings.TrimSpace(holder)
		} else if strings.TrimSpace(line) == turn {
			process = ""
		}
	}
	return process
}
