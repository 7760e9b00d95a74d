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
			return fmt.Errorf("name %q: a segment may have letters, digits and ._@+-, and must start with a letter, a digit or _", name)
		}
	}
	return nil
}

// optional returns nil for a name that does not exist.
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
	return fmt.Sprintf("it has format %d, but this slipway only supports formats up to %d: use a newer slipway", e.Have, e.Supported)
}

// DefaultDir returns the default directory of a cluster's state: below SLIPWAY_STATE_DIR, else
// XDG_STATE_HOME/slipway, else ~/.local/state/slipway.
func DefaultDir(cluster string) (string, error) {
	if strings.Contains(cluster, "/") || checkName(cluster) != nil {
		return "", fmt.Errorf("state directory: %q is not a valid cluster name", cluster)
	}
	if dir := os.Getenv("SLIPWAY_STATE_DIR"); dir != "" {
		return filepath.Abs(filepath.Join(dir, cluster))
	}
	// The XDG base directory specification says to ignore relative paths.
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
