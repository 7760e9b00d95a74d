package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// version is that of the directory's layout. It changes when an older slipway would misread it.
const version = 1

// PermissionError means that others than its owner may read the state, or that it belongs to somebody else.
type PermissionError struct {
	Dir  string
	Mode fs.FileMode
	UID  int
}

func (e *PermissionError) Error() string {
	if e.Mode&0o077 != 0 {
		return fmt.Sprintf("state %s holds private keys and has mode %04o: others may read it; make it yours alone: chmod 700 %s", e.Dir, e.Mode, e.Dir)
	}
	return fmt.Sprintf("state %s belongs to user %d, not to you: run as that user, or choose another directory", e.Dir, e.UID)
}

// VersionError means that a newer slipway wrote the state.
type VersionError struct {
	Dir             string
	Have, Supported int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("state %s has format %d; this slipway knows formats up to %d: use the newer slipway that wrote it", e.Dir, e.Have, e.Supported)
}

// checkVersion reads the version; errors.Is finds fs.ErrNotExist where there is none because the directory is new.
func (s *Store) checkVersion() error {
	text, err := s.root.ReadFile(versionFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.checkNew(err)
	case err != nil:
		return fmt.Errorf("open state %s: %w", s.dir, err)
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || have < 1 {
		return fmt.Errorf("open state %s: its version file is damaged: it should hold a number from 1 to %d", s.dir, version)
	}
	if have > version {
		return &VersionError{Dir: s.dir, Have: have, Supported: version}
	}
	return nil
}

// checkNew tells a directory that can become a state, where it returns missing, from one with other contents.
func (s *Store) checkNew(missing error) error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("open state %s: %w", s.dir, err)
	}
	for _, entry := range entries {
		// These remain when somebody was killed while initializing.
		if n := entry.Name(); n != lockFile && n != versionFile+".new" && n != dataDir && n != logsDir {
			return fmt.Errorf("open state %s: not a state directory: it has no version file and holds %q: choose an empty or another directory", s.dir, n)
		}
	}
	return fmt.Errorf("open state %s: %w", s.dir, missing)
}

// initialize makes an empty state. The version file comes last: with it the directory is one.
func (s *Store) initialize() error {
	for _, dir := range []string{dataDir, logsDir} {
		if err := s.root.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	temporary := versionFile + ".new"
	if err := s.root.RemoveAll(temporary); err != nil {
		return err
	}
	if err := s.writeSynced(temporary, []byte(strconv.Itoa(version)+"\n")); err != nil {
		return err
	}
	if err := s.root.Rename(temporary, versionFile); err != nil {
		return err
	}
	return s.syncDirs(".")
}

const maxName = 200

var segment = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]*$`)

// checkName accepts slash paths of plain segments, for example "pki/etcd/server@demo-cp-1.key".
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("name %q... is longer than %d bytes", name[:40], maxName)
	}
	for s := range strings.SplitSeq(name, "/") {
		if !segment.MatchString(s) {
			return fmt.Errorf("name %q: a segment must be of letters, digits and ._@+- and begin with a letter, a digit or _", name)
		}
	}
	return nil
}

// DefaultDir is where the state of a cluster is unless the user says otherwise: below SLIPWAY_STATE_DIR, else
// XDG_STATE_HOME/slipway, else ~/.local/state/slipway.
func DefaultDir(cluster string) (string, error) {
	if strings.Contains(cluster, "/") || checkName(cluster) != nil {
		return "", fmt.Errorf("state directory: %q cannot be the name of a cluster", cluster)
	}
	if dir := os.Getenv("SLIPWAY_STATE_DIR"); dir != "" {
		return filepath.Abs(filepath.Join(dir, cluster))
	}
	// The XDG base directory specification has relative paths ignored.
	base := os.Getenv("XDG_STATE_HOME")
	if !path.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("state directory: %w: set SLIPWAY_STATE_DIR", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "slipway", cluster), nil
}
