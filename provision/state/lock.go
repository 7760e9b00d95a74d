package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// Holder is who has the lock. It is for people to read; what locks is flock, which ends with the process.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// LockedError means that another process is writing to the state.
type LockedError struct {
	Dir string
	// Holder is zero when it has not written down who it is yet.
	Holder Holder
}

func (e *LockedError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("state %s is locked by another process", e.Dir)
	}
	return fmt.Sprintf("state %s is locked by process %d on %s since %s (%s): wait for it to end, or end it",
		e.Dir, e.Holder.PID, e.Holder.Host, e.Holder.Since.Local().Format(time.DateTime), e.Holder.Command)
}

// acquire takes the lock or says at once who has it.
func (s *Store) acquire() error {
	f, err := s.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("lock state %s: %w", s.dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) //nolint:gosec // file descriptors are small
	if errors.Is(err, unix.EWOULDBLOCK) {
		locked := &LockedError{Dir: s.dir}
		// Advice only: a holder that is just now writing it down leaves it zero.
		_ = json.NewDecoder(f).Decode(&locked.Holder)
		return errors.Join(locked, f.Close())
	}
	if err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("lock state %s: %w", s.dir, err)
	}
	s.lock = f
	return nil
}

func writeHolder(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	command := strings.Join(os.Args, " ")
	if len(command) > 200 {
		command = command[:200]
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), Command: command})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return err
}
