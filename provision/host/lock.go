package host

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Waits begins the line that a script prints to stderr when it has to wait for the lock; the number of the process that
// holds it follows. Turn is the line that says that it has waited long enough.
const (
	Waits = "waits for what an earlier run has left at work: process "
	Turn  = "goes on: what an earlier run had left at work has ended"
)

const (
	// defaultPatience is how long what an earlier run has left at work may take to end by itself: as long as units take
	// to stop and start where all is well.
	defaultPatience = time.Minute
	// busyCode is the exit code of a script that did not get the lock (EX_TEMPFAIL, sysexits.h), and held begins the last
	// line that it prints.
	busyCode = 75
	held     = "held by "
)

// lock is a file on a host of which one script at a time holds a lock (flock(2)), until it, and whatever it has started,
// has ended. The file tells the number of its process and its tag, by which it is ended when patience has. It is its
// owner's alone: who may open it could hold it.
type lock struct {
	path     string // "" for none
	patience time.Duration
}

// holding is the beginning of a script that holds the lock.
func (l lock) holding() string {
	if l.path == "" {
		return ""
	}
	return fmt.Sprintf(`command -v flock >/dev/null || { echo 'flock (util-linux) is not installed, and changes are kept apart with it' >&2; exit 127; }
mask=$(umask); umask 077; exec 9>>%[1]s; umask $mask
holder() { read -r process tag <%[1]s || :; }
flock -n 9 || {
	holder; echo "%[3]s$process" >&2
	flock -w %[2]g 9 || { holder; [ -z "$tag" ] || ( %[5]s); flock -w %[2]g 9; } || { holder; echo "%[7]s$process" >&2; exit %[6]d; }
	echo "%[4]s" >&2
}
echo $$ $SLIPWAY_RUN >%[1]s
`, Quote(l.path), cmp.Or(l.patience, defaultPatience).Seconds(), Waits, Turn, fmt.Sprintf(terminator, `"$tag"`), busyCode, held)
}

// holder gives the process for which a script waited in vain, by what it printed; "" where nobody knows.
func (l lock) holder(stderr []byte) (process string, ok bool) {
	if l.path == "" {
		return "", false
	}
	text := strings.TrimRight(string(stderr), "\n")
	return strings.CutPrefix(text[strings.LastIndexByte(text, '\n')+1:], held)
}
