package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

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

// optional has nothing for what is not there.
func optional(content []byte, err error) ([]byte, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// VersionError means that a newer slipway wrote the state.
type VersionError struct {
	Have, Supported int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("it has format %d; this slipway knows formats up to %d: use the newer slipway that wrote it", e.Have, e.Supported)
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
