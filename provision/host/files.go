package host

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// staging is the prefix of directories next to the targets, so that files are replaced by a
	// rename within their file system, with one mv for all files of a directory. Leftovers of a
	// crashed host are removed after staleMinutes.
	staging      = ".slipway-new-"
	staleMinutes = 60
	// missing is the exit code of read's script if the file does not exist (EX_NOINPUT,
	// sysexits.h).
	missing = 66
	// batch is the number of names per command, far below the kernel's limit on arguments.
	batch = 200
)

var ownerPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// write sends the names in a script and the contents as a tar stream behind it, in one session.
func write(ctx context.Context, m machine, files []File) error {
	if len(files) == 0 {
		return nil
	}
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	if err := check(files); err != nil {
		return &WriteError{m.Name(), paths, err}
	}
	stage := staging + rand.Text() // unique to this write, because others may run in parallel
	script := writeScript(files, stage, m.lock())
	contents, done := contents(files, stage)
	defer done()
	_, err := run(ctx, m, Cmd{Script: script, Stdin: contents})
	if err != nil {
		return &WriteError{m.Name(), paths, err}
	}
	return nil
}

// contents is the archive of files, in one piece unless there are streamed ones: over SSH each part
// would be a packet of its own. done ends what streams, if the host did not read everything.
func contents(files []File, stage string) (in io.Reader, done func()) {
	if !slices.ContainsFunc(files, func(f File) bool { return f.Open != nil }) {
		var all bytes.Buffer
		_ = archive(&all, files, stage) // there is nothing that can fail
		return bytes.NewReader(all.Bytes()), func() {}
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(archive(w, files, stage)) }()
	return r, func() { _ = r.Close() }
}

func check(files []File) error {
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		switch {
		case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" || strings.ContainsAny(f.Path, "\x00\n"):
			return fmt.Errorf("%q is not an absolute, clean path on one line", f.Path)
		case seen[f.Path]:
			return fmt.Errorf("%s is there twice", f.Path)
		}
		if err := f.check(); err != nil {
			return err
		}
		seen[f.Path] = true
	}
	return nil
}

// check checks all of a file but its path.
func (f File) check() error {
	switch kind := f.Mode.Type(); {
	case kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink, f.Mode&^(fs.ModeType|fs.ModePerm) != 0:
		return fmt.Errorf("%s: mode %v is of no kind that Write knows", f.Path, f.Mode)
	case kind != fs.ModeSymlink && f.Mode.Perm() == 0:
		return fmt.Errorf("%s: the mode has no permission bits", f.Path)
	case !f.streamable():
		return fmt.Errorf("%s is streamed, but is no regular file with a size and a SHA-256, or has other content too", f.Path)
	case kind == fs.ModeDir && len(f.Content) != 0:
		return fmt.Errorf("%s is a directory and has content", f.Path)
	case kind == fs.ModeSymlink && (len(f.Content) == 0 || bytes.ContainsAny(f.Content, "\x00\n")):
		return fmt.Errorf("%s: the target of a symbolic link is one line", f.Path)
	case f.Owner != "" && !ownerPattern.MatchString(f.Owner):
		return fmt.Errorf("%s: owner %q is not user:group", f.Path, f.Owner)
	}
	return nil
}

// streamable reports whether a file is not streamed, or is a regular one with all that this needs.
func (f File) streamable() bool {
	return f.Open == nil || f.Mode.IsRegular() && len(f.Content) == 0 && f.Size >= 0 && digestPattern.MatchString(f.SHA256)
}

// staged is the temporary path of a path's new content.
func staged(name, stage string) string { return path.Join(path.Dir(name), stage, path.Base(name)) }

// archive writes the members in GNU format, whose names are bytes; PAX would have tar convert them
// to its locale.
func archive(w io.Writer, files []File, stage string) error {
	tw := tar.NewWriter(w)
	now := time.Now() // whole seconds are all that the format has
	for _, f := range files {
		h := &tar.Header{Name: staged(f.Path, stage), Mode: int64(f.Mode.Perm()), ModTime: now, Format: tar.FormatGNU}
		switch f.Mode.Type() {
		case fs.ModeDir:
			continue
		case fs.ModeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, string(f.Content)
		default:
			h.Typeflag, h.Size = tar.TypeReg, f.length()
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if err := copyContent(tw, f); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// copyContent writes the content of a regular file.
func copyContent(w io.Writer, f File) error {
	if f.Open == nil {
		_, err := w.Write(f.Content)
		return err
	}
	content, err := f.Open()
	if err != nil {
		return fmt.Errorf("open the content of %s: %w", f.Path, err)
	}
	defer content.Close() //nolint:errcheck // only read
	n, err := io.Copy(w, content)
	if err == nil && n < f.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("send the content of %s: %w", f.Path, err)
	}
	return nil
}

// writeScript makes directories, unpacks the members into a staging directory next to their
// targets, and renames them when all are synced. It takes the lock only when all have arrived,
// because the stream may stall. tar runs as root and sets each member's mode and root:root; until
// then, only the owner can read it.
func writeScript(files []File, stage string, lock lock) string {
	var regular, dirs []File
	var order []string // of directories, as files has them: so are they renamed
	owned, byDir, parents := map[string][]string{}, map[string][]string{}, map[string]bool{}
	for _, f := range files {
		parents[path.Dir(f.Path)] = true
		if f.Mode.IsDir() {
			dirs = append(dirs, f)
			continue
		}
		dir := path.Dir(f.Path)
		if byDir[dir] == nil {
			order = append(order, dir)
		}
		byDir[dir] = append(byDir[dir], staged(f.Path, stage))
		if f.Mode.IsRegular() {
			regular = append(regular, f)
		}
		if f.Owner != "" && f.Owner != "root:root" {
			owned[f.Owner] = append(owned[f.Owner], staged(f.Path, stage))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# write %d files\nset -e\n", len(files))
	makeDirs(&b, dirs, parents)
	if len(byDir) == 0 {
		return b.String()
	}
	var stages []string
	for _, dir := range sortedKeys(byDir) {
		stages = append(stages, path.Join(dir, stage))
	}
	b.WriteString("command -v tar >/dev/null || { echo 'tar is not installed, and files are sent with it' >&2; exit 127; }\n")
	b.WriteString("clean() {\ntrap '' HUP INT TERM\n") // rm is not to be stopped
	each(&b, "rm -rf --", stages)
	b.WriteString("}\ntrap clean EXIT\ntrap 'exit 129' HUP\ntrap 'exit 130' INT\ntrap 'exit 143' TERM\n")
	b.WriteString("umask 077\n")
	each(&b, "mkdir -m 0700 --", stages)
	b.WriteString("tar -xpPf - --numeric-owner\n")
	for _, f := range regular {
		if f.Open != nil {
			fmt.Fprintf(&b, "[ \"$(sha256sum <%s)\" = '%s  -' ] || { echo %s >&2; exit 65; }\n", Quote(staged(f.Path, stage)), f.SHA256,
				Quote(f.Path+" arrived with another content: its SHA-256 is not "+f.SHA256))
		}
	}
	b.WriteString(lock.holding())
	for _, owner := range sortedKeys(owned) {
		each(&b, "chown -h "+Quote(owner)+" --", owned[owner])
	}
	each(&b, "sync --", stagedPaths(regular, stage))
	for _, dir := range order {
		each(&b, "mv -f -t "+Quote(dir)+" --", byDir[dir])
	}
	each(&b, "sync --", sortedKeys(byDir)) // so that they exist after a power failure
	var quoted []string
	for _, dir := range sortedKeys(byDir) {
		quoted = append(quoted, Quote(dir))
	}
	fmt.Fprintf(&b, "find %s -maxdepth 1 -name '%s*' -mmin +%d -exec rm -rf {} +\n", strings.Join(quoted, " "), staging, staleMinutes)
	return b.String()
}

// makeDirs makes the requested directories, and missing parents of all other paths.
func makeDirs(b *strings.Builder, dirs []File, parents map[string]bool) {
	// Parents before children, so that a directory gets its requested mode and owner.
	slices.SortFunc(dirs, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, d := range dirs {
		delete(parents, d.Path)
		p := Quote(d.Path)
		fmt.Fprintf(b, "mkdir -p -m 0700 -- %s\n", p)
		if d.Owner != "" {
			fmt.Fprintf(b, "chown %s -- %s\n", Quote(d.Owner), p)
		}
		fmt.Fprintf(b, "chmod %04o -- %s\n", d.Mode.Perm(), p)
	}
	each(b, "mkdir -p --", sortedKeys(parents))
}

func stagedPaths(files []File, stage string) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = staged(f.Path, stage)
	}
	return names
}

// each writes a command for every batch of names.
func each(b *strings.Builder, command string, names []string) {
	for chunk := range slices.Chunk(names, batch) {
		b.WriteString(command)
		for _, n := range chunk {
			b.WriteString(" " + Quote(n))
		}
		b.WriteString("\n")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func read(ctx context.Context, m machine, name string) ([]byte, error) {
	var content bytes.Buffer
	p := Quote(name)
	script := fmt.Sprintf("[ ! -e %s ] || exec cat -- %s\nexit %d", p, p, missing)
	_, err := run(ctx, m, Cmd{Script: script, Stdout: &content})
	var exit *ExitError
	if errors.As(err, &exit) && exit.Code == missing {
		return nil, notExist(m.Name(), name)
	}
	if err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}
