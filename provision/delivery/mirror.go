package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A mirror is a directory that a web server serves: a file for each Blob, under its Name. The name
// has both digests, so one mirror serves all versions and architectures, and files are only added.

// Publish copies a blob to the directory of a mirror, readable for everybody, unless it is there
// already. It appears by rename, and replaces a file that is damaged. added means that it was copied.
func Publish(ctx context.Context, b Blob, dir string) (added bool, err error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("publish %s in %s: %w", b.Name(), dir, err) }
	target := filepath.Join(dir, b.Name())
	sum, _, err := digest(ctx, target)
	if err == nil && sum == b.Sum {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	in, err := os.Open(b.File)
	if err != nil {
		return fail(err)
	}
	defer in.Close()                                                   //nolint:errcheck // only read
	err = inOnePiece(dir, 0o644, func(out io.Writer) (string, error) { // a web server reads it
		_, err := io.Copy(out, reader{ctx, in})
		return target, err
	})
	if err != nil {
		return fail(err)
	}
	return true, nil
}
