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

// Holder describes the process that has the lock, for messages. A directory is locked with flock,
// which ends with the process.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
	// ID is unique for every lock of a bucket. The document records it.
	ID string `json:"id,omitempty"`
	// Kernel identifies the boot and the process namespace that PID belongs to; empty if unknown.
	Kernel string `json:"kernel,omitempty"`
}

// LockedError means that another process is writing to the state.
type LockedError struct {
	// Holder is zero if unknown.
	Holder Holder
	// Frees is how long the lock is still held if its holder is dead; 0 if it ends with the
	// process.
	Frees time.Duration
}

func (e *LockedError) Error() string {
	if e.Holder.PID == 0 {
		return "it is locked by another process"
	}
	text := fmt.Sprintf("it is locked by process %d on %s since %s (%s): wait for it to finish, or stop it",
		e.Holder.PID, e.Holder.Host, e.Holder.Since.Local().Format(time.DateTime), e.Holder.Command)
	if e.Frees > 0 {
		text += fmt.Sprintf("; if it is dead, its lock expires in %s (lock ID %s)", e.Frees.Round(time.Second), e.Holder.ID)
	}
	return text
}

// LostError means that this process has lost the lock.
type LostError struct {
	// Holder has the lock now; zero if unknown.
	Holder Holder
	// Err is why the lock could not be kept, if known.
	Err error
}

func (e *LostError) Error() string {
	text := "the lock was lost"
	switch {
	case e.Holder.PID != 0:
		text += fmt.Sprintf(": process %d on %s has it since %s (%s)",
			e.Holder.PID, e.Holder.Host, e.Holder.Since.Local().Format(time.DateTime), e.Holder.Command)
	case e.Err != nil:
		text += fmt.Sprintf(": it could not be renewed in time: %v", e.Err)
	}
	return text + "; the state is no longer written"
}

func (e *LostError) Unwrap() error { return e.Err }

// self describes this process.
func self() (Holder, error) {
	host, err := os.Hostname()
	if err != nil {
		return Holder{}, err
	}
	command := strings.Join(os.Args, " ")
	if len(command) > 200 {
		command = command[:200]
	}
	return Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), Command: command}, nil
}

// acquire takes the lock of a directory, or returns the holder at once.
func (d *directory) acquire() error {
	f, err := d.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) //nolint:gosec // file descriptors are small
	if errors.Is(err, unix.EWOULDBLOCK) {
		locked := &LockedError{}
		// Best effort: if the holder has not written its name yet, it is zero.
		_ = json.NewDecoder(f).Decode(&locked.Holder)
		return errors.Join(locked, f.Close())
	}
	if err == nil {
		err = writeHolder(f)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.flock = f
	return nil
}

func writeHolder(f *os.File) error {
	holder, err := self()
	if err != nil {
		return err
	}
	text, err := json.Marshal(holder)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return err
}

// kernel identifies the boot and the process namespace, which give a PID its meaning; "" if
// unknown. Two containers may have the same host name, and each of them a process 7.
func kernel() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + namespace
}

// isDead reports whether a holder is certainly a process of this machine that has ended.
func (h Holder) isDead() bool {
	host, err := os.Hostname()
	k := kernel()
	return err == nil && k != "" && h.Host == host && h.Kernel == k && h.PID > 0 && errors.Is(unix.Kill(h.PID, 0), unix.ESRCH)
}
