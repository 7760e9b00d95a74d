package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// selfMemo remembers the digest of an executable by what changes when it is replaced.
type selfMemo struct {
	Path   string `json:"path"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // nanoseconds since 1970
	SHA256 string `json:"sha256"`
}

// Self puts the running slipway executable beside the bundles, at <cache>/bundles/slipway-<16 hex digits of its
// SHA-256>/bin/slipway, so that hosts get it like any other artifact; dir is that directory. Its version is those
// digits: two builds of one version differ. Hashing is done once for every executable.
func Self(cacheDir string) (Artifact, string, error) {
	fail := func(err error) (Artifact, string, error) {
		return Artifact{}, "", fmt.Errorf("put slipway beside the bundles: %w", err)
	}
	executable, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	cacheDir, err = filepath.Abs(cacheDir)
	if err != nil {
		return fail(err)
	}
	memo, err := identify(executable, filepath.Join(cacheDir, "self.json"))
	if err != nil {
		return fail(err)
	}
	a := Artifact{
		Name: "slipway", Component: "slipway", Version: memo.SHA256[:16], Kind: Binary,
		OS: runtime.GOOS, Arch: runtime.GOARCH, SHA256: memo.SHA256, Size: memo.Size, Path: "bin/slipway",
	}
	dir := filepath.Join(cacheDir, "bundles", "slipway-"+memo.SHA256[:16])
	file := filepath.Join(dir, "bin", "slipway")
	if a.present(file) == nil {
		return a, dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // hosts see it
		return fail(err)
	}
	if err := placeSelf(executable, file); err != nil {
		return fail(err)
	}
	return a, dir, nil
}

// placeSelf is place for several at once: no lock is held, so everyone has a temporary name of their own. It copies,
// because who builds slipway again may write into the old file, and a host's must not change.
func placeSelf(executable, file string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Dir(file)), "."+temporary)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // holds nothing after the rename
	copied := filepath.Join(tmp, "slipway")
	if err := copyFile(executable, copied); err != nil {
		return err
	}
	if err := os.Chmod(copied, 0o755); err != nil { //nolint:gosec // hosts execute it
		return err
	}
	return os.Rename(copied, file)
}

// identify returns the executable's digest, from the memo if it is of the same file.
func identify(executable, memoFile string) (selfMemo, error) {
	info, err := os.Stat(executable)
	if err != nil {
		return selfMemo{}, err
	}
	now := selfMemo{Path: executable, Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		now.Inode = stat.Ino
	}
	var known selfMemo
	if data, err := os.ReadFile(memoFile); err == nil && json.Unmarshal(data, &known) == nil { //nolint:gosec // of the cache
		now.SHA256 = known.SHA256
		if now == known && sha256Hex.MatchString(known.SHA256) {
			return now, nil
		}
	}
	if now.SHA256, err = fileDigest(context.Background(), executable); err != nil {
		return selfMemo{}, err
	}
	if err := os.MkdirAll(filepath.Dir(memoFile), 0o755); err != nil { //nolint:gosec // holds the bundles
		return selfMemo{}, err
	}
	return now, writeJSON(memoFile, now)
}
