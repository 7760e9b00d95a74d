package host

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// LockWaiting is the prefix of the line that a script prints to stderr if it has to wait for the
// lock; the PID of the holder follows. LockAcquired is the line after it has acquired the lock.
const (
	LockWaiting  = "waits for work of an earlier run: process "
	LockAcquired = "continues: the work of the earlier run has ended"
)

const (
	// defaultPatience is how long a script from an earlier run may take to finish by itself: as
	// long as units normally take to stop and start.
	defaultPatience = time.Minute
	// busyCode is the exit code of a script that did not get the lock (EX_TEMPFAIL, sysexits.h),
	// and held begins the last line that it prints.
	busyCode = 75
	held     = "held by "
)

// lock is a lock file (flock(2)) on a host, held by one script at a time until it and its child
// processes have ended. The file has the PID and the tag of the script, which are used to terminate
// it after patience. Only its owner can access it, because anyone who can open it could hold the
// lock.
type lock struct {
	path     string // "" for none
	patience time.Duration
}

// holding is the prefix of a script that holds the lock.
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
`, Quote(l.path), cmp.Or(l.patience, defaultPatience).Seconds(), LockWaiting, LockAcquired, fmt.Sprintf(terminator, `"$tag"`), busyCode, held)
}

// holder returns the PID that a script waited for in vain, from its output, or "".
func (l lock) holder(stderr []byte) (process string, ok bool) {
	if l.path == "" {
		return "", false
	}
	text := strings.TrimRight(string(stderr), "\n")
	return strings.CutPrefix(text[strings.LastIndexByte(text, '\n')+1:], held)
}
