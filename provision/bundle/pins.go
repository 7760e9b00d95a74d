package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Pins are the SHA-256, in lower-case hex, that files of upstream must have, by their paths below
// upstream's base or a mirror's: "opencontainers/runc/releases/download/v1.5.2/runc.amd64".
type Pins map[string]string

// UnpinnedError means that no digest is known for some files, except from the download site itself.
type UnpinnedError struct {
	Files []string // their paths, as in Pins
}

func (e *UnpinnedError) Error() string {
	return fmt.Sprintf("%d of the files to download have no pinned SHA-256, and a digest from the site of the file itself finds "+
		"damage, not malice:\n  %s", len(e.Files), strings.Join(e.Files, "\n  "))
}

// ReadPins reads a file of lines as sha256sum writes them, "<SHA-256> <path>", and comments after
// #. A file that is not there has no pins.
func ReadPins(file string) (Pins, error) {
	content, err := os.ReadFile(file) //nolint:gosec // the caller's choice of file
	if errors.Is(err, fs.ErrNotExist) {
		return Pins{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pinned digests: %w", err)
	}
	return parsePins(string(content), file)
}

func parsePins(content, file string) (Pins, error) {
	pins, number := Pins{}, 0
	for line := range strings.Lines(content) {
		number++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || !sha256Hex.MatchString(fields[0]) {
			return nil, fmt.Errorf("%s:%d: want a SHA-256 of 64 hex digits, two spaces and a path, as sha256sum writes them", file, number)
		}
		at, digest := path.Clean(strings.TrimPrefix(fields[1], "*")), strings.ToLower(fields[0])
		if other, ok := pins[at]; ok && other != digest {
			return nil, fmt.Errorf("%s:%d: %s has another SHA-256 further up: keep one", file, number, at)
		}
		pins[at] = digest
	}
	return pins, nil
}

// WritePins writes pins so that ReadPins reads them; the file appears whole or not at all.
func WritePins(file string, pins Pins) error {
	text := "# SHA-256 of upstream's files, from `slipway bundle download`. Keep it with the spec: whoever downloads again,\n" +
		"# anywhere, must get the same.\n"
	for _, at := range slices.Sorted(maps.Keys(pins)) {
		text += pins[at] + "  " + at + "\n"
	}
	if err := writeFile(file, []byte(text)); err != nil {
		return fmt.Errorf("write pinned digests: %w", err)
	}
	return nil
}

// builtInPins are those that come with slipway.
var builtInPins = sync.OnceValues(func() (Pins, error) {
	content, err := recipes.ReadFile("recipes/upstream.sha256")
	if err != nil {
		return nil, err
	}
	return parsePins(string(content), "upstream.sha256")
})

// pinSet has the pins of a run. Published digests that are trusted are added.
type pinSet struct {
	mu      sync.Mutex
	pins    Pins
	learned Pins
}

// newPinSet unites slipway's pins and the user's. Two that differ are an error: one of them is not
// upstream's file.
func newPinSet(own, users Pins) (*pinSet, error) {
	all := maps.Clone(own)
	for _, at := range slices.Sorted(maps.Keys(users)) {
		if digest, ok := all[at]; ok && digest != users[at] {
			return nil, fmt.Errorf("%s: the SHA-256 given for it, %s, is not the one that slipway has, %s: remove it there", at, users[at], digest)
		}
		all[at] = users[at]
	}
	return &pinSet{pins: all, learned: Pins{}}, nil
}

func (s *pinSet) of(at string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest, ok := s.pins[at]
	return digest, ok
}

func (s *pinSet) learn(at, digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[at], s.learned[at] = digest, digest
}

// unpinned lists the files of rows that no pin is known of, sorted.
func (s *pinSet) unpinned(rows []recipe, arch string) []string {
	var files []string
	for _, r := range rows {
		if r.C != nil {
			continue
		}
		for _, file := range r.remotes(arch) {
			if _, ok := s.pins[file.path]; !ok {
				files = append(files, file.path)
			}
		}
	}
	slices.Sort(files)
	return files
}

// text returns the pins of a recipe's files, which are part of a download's digest.
func (s *pinSet) text(r recipe, arch string) string {
	if r.C != nil {
		return ""
	}
	var b strings.Builder
	for _, file := range r.remotes(arch) {
		digest, _ := s.of(file.path)
		b.WriteString(digest + " " + file.path + "\n")
	}
	return b.String()
}

// checkMirror refuses an http:// mirror, unless it is explicitly allowed: files without a pin could
// be tampered with.
func checkMirror(o Options) error {
	u, err := url.Parse(o.Mirror)
	if err != nil || !strings.EqualFold(u.Scheme, "http") || o.InsecureHTTP {
		return nil //nolint:nilerr // not a URL: a directory
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the mirror %s is reached without TLS: write https:// or a directory, or allow it with --insecure-http", u.Redacted())
}

// writeFile writes a file, mode 0644, that appears whole or not at all.
func writeFile(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+temporary+"*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone after the rename
	defer tmp.Close()           //nolint:errcheck // closed below where it counts
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
