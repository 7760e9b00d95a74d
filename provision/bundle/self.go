package bundle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Self copies the running slipway executable to the cache, at <cache>/bundles/slipway-<16 hex
// digits of its SHA-256>/bin/slipway, so that hosts get it like any other artifact; dir is that
// directory. Its version is those digits, because two builds of one version may differ. An existing
// copy is read again only if it has changed.
func Self(cacheDir string) (Artifact, string, error) {
	fail := func(err error) (Artifact, string, error) {
		return Artifact{}, "", fmt.Errorf("put slipway next to the bundles: %w", err)
	}
	executable, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	cacheDir, err = filepath.Abs(cacheDir)
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(executable)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil { //nolint:gosec // contains the bundles
		return fail(err)
	}
	memo := openDigests(cacheDir)
	sum, err := memo.of(context.Background(), executable)
	if err != nil {
		return fail(err)
	}
	a := Artifact{
		Name: "slipway", Component: "slipway", Version: sum[:16], Kind: Binary,
		OS: runtime.GOOS, Arch: runtime.GOARCH, SHA256: sum, Size: info.Size(), Path: "bin/slipway",
	}
	dir := filepath.Join(cacheDir, "bundles", "slipway-"+sum[:16])
	file := filepath.Join(dir, "bin", "slipway")
	if memo.holds(context.Background(), a, file) != nil {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // hosts see it
			return fail(err)
		}
		if err := placeSelf(executable, file); err != nil {
			return fail(err)
		}
	}
	use(dir)
	if err := memo.save(); err != nil {
		return fail(err)
	}
	return a, dir, nil
}

// placeSelf is place for concurrent calls: no lock is held, so each uses its own temporary name. It
// copies, because a new build of slipway may overwrite the old file, and a host's must not change.
func placeSelf(executable, file string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Dir(file)), "."+temporary)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // empty after the rename
	copied := filepath.Join(tmp, "slipway")
	if err := copyFile(executable, copied); err != nil {
		return err
	}
	if err := os.Chmod(copied, 0o755); err != nil { //nolint:gosec // hosts execute it
		return err
	}
	return os.Rename(copied, file)
}
