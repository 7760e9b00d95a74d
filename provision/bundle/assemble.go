package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// assemble makes the bundle's directory from components. It links files if the file system supports
// it, and checks them: a damaged component is not used, and is removed. For an existing bundle, it
// restores missing and damaged files. bundle.json is written last: it makes the directory a bundle.
func assemble(ctx context.Context, o Options, components []component) (*Bundle, error) {
	b := &Bundle{APIVersion: APIVersion, Kind: Kind, KubernetesVersion: o.KubernetesVersion}
	for _, c := range components {
		b.Artifacts = append(b.Artifacts, c.artifacts...)
	}
	slices.SortFunc(b.Artifacts, func(x, y Artifact) int { return strings.Compare(x.Path, y.Path) })
	b.Digest = digestOf(b.Artifacts)
	b.Dir = filepath.Join(o.CacheDir, "bundles", b.Digest)
	for _, sub := range []string{"bin", "images"} {
		if err := os.MkdirAll(filepath.Join(b.Dir, sub), 0o755); err != nil { //nolint:gosec // hosts see it
			return nil, fmt.Errorf("assemble bundle: %w", err)
		}
	}
	for _, c := range components {
		for _, a := range c.artifacts {
			if o.memo.holds(ctx, a, b.File(a)) == nil {
				continue
			}
			if err := o.memo.holds(ctx, a, filepath.Join(c.dir, a.Path)); err != nil {
				return nil, fmt.Errorf("assemble bundle: %w", errors.Join(err, os.RemoveAll(c.dir)))
			}
			if err := place(filepath.Join(c.dir, a.Path), b.File(a)); err != nil {
				return nil, fmt.Errorf("assemble bundle: %w", err)
			}
		}
	}
	if err := writeJSON(filepath.Join(b.Dir, "bundle.json"), b); err != nil {
		return nil, fmt.Errorf("assemble bundle: %w", err)
	}
	return Open(b.Dir)
}

// place atomically replaces dst with a hard link to src, or with a copy if links are not supported.
func place(src, dst string) error {
	tmp := filepath.Join(filepath.Dir(dst), "."+temporary+filepath.Base(dst))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Link(src, tmp); err != nil {
		if err := copyFile(src, tmp); err != nil {
			return err
		}
	}
	// rename(2) does nothing if both names are the same file already, and would leave the temporary
	// one.
	if same(tmp, dst) {
		return os.Remove(tmp)
	}
	return os.Rename(tmp, dst)
}

func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func copyFile(src, dst string) error {
	in, err := os.Open(src) //nolint:gosec // a file of the cache
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()) //nolint:gosec // a file of the cache
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // closed below where it counts
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(info.Mode().Perm()); err != nil { // whatever the umask
		return err
	}
	return out.Close()
}

// writeJSON writes a value as an indented file that appears whole or not at all.
func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(file, append(data, '\n'))
}

// bytesDigest is the SHA-256 of data, in hex.
func bytesDigest(data ...[]byte) string {
	hash := sha256.New()
	for _, d := range data {
		_, _ = hash.Write(d)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
