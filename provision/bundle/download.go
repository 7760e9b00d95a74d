package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Download makes the bundle from upstream's releases or a mirror, and checks each file against its
// pin. If files have no pin, the error is an *UnpinnedError, unless published digests are trusted.
// Interrupted downloads are resumed, and components that were downloaded before come from the
// cache. The pause program, which upstream only publishes in images, is built from a few lines of
// Go.
func Download(ctx context.Context, o Options) (*Bundle, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	rows, err := recipesFor(o.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	return downloadRows(ctx, o, rows, newDownloader(o))
}

func downloadRows(ctx context.Context, o Options, rows []recipe, d *downloader) (*Bundle, error) {
	builds := func(r recipe) bool { return r.C != nil }
	if _, err := exec.LookPath("go"); err != nil && slices.ContainsFunc(rows, builds) {
		return nil, errors.New("cannot make the pause image, go is missing (on Debian: apt-get install golang-go)")
	}
	if files := o.pins.unpinned(rows, o.Arch); len(files) > 0 && !o.TrustPublished {
		return nil, &UnpinnedError{Files: files}
	}
	b, err := collect(ctx, o, rows, d)
	if err == nil && o.Learned != nil && len(o.pins.learned) > 0 {
		err = o.Learned(o.pins.learned)
	}
	return b, err
}

// downloader is the source that fetches.
type downloader struct {
	o     Options
	sites func(base string) site // what serves the paths below a base
	// pauses before each further attempt at what failed for a reason known to pass.
	pauses []time.Duration
}

func newDownloader(o Options) *downloader {
	return &downloader{
		o: o, sites: sites(o.Mirror),
		pauses: []time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second},
	}
}

func (d *downloader) kind() Source { return FromDownload }

func (d *downloader) version(r recipe) string { return r.upstreamVersion() }

func (d *downloader) slots() int64 { return 4 }

func (d *downloader) weight(recipe) int64 { return 1 }

func (d *downloader) digest(ctx context.Context, r recipe) (string, error) {
	var compiler string
	if r.C == nil {
		for _, file := range r.remotes(d.o.Arch) {
			if err := d.trust(ctx, r, file); err != nil {
				return "", err
			}
		}
	} else {
		r.C = &cSource{Name: r.C.Name} // built from Go
		var err error
		if compiler, err = (command{env: goEnv(d.o.Arch, false), args: []string{"go", "env", "GOVERSION"}}).run(ctx); err != nil {
			return "", err
		}
	}
	return recipeDigest(r, d.o.Arch, "upstream "+compiler+d.o.pins.text(r, d.o.Arch))
}

// trust pins a file without a pin to its published digest.
func (d *downloader) trust(ctx context.Context, r recipe, file remote) error {
	if _, ok := d.o.pins.of(file.path); ok {
		return nil
	}
	digest, err := d.published(ctx, r, d.sites(r.Upstream.base()), file)
	if err != nil {
		return err
	}
	d.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Trusting, Detail: path.Base(file.path) + " has the SHA-256 " + digest +
		", says the site that it comes from"})
	d.o.pins.learn(file.path, digest)
	return nil
}

func (d *downloader) make(ctx context.Context, r recipe, dir string) error {
	bin := filepath.Join(dir, "bin")
	if r.C != nil {
		d.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Building})
		return compilePause(ctx, r, filepath.Join(dir, "work"), bin, d.o.Arch)
	}
	for _, file := range r.remotes(d.o.Arch) {
		d.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Downloading, Detail: path.Base(file.path)})
		got, err := d.fetch(ctx, r, file)
		if err != nil {
			return err
		}
		if err := unpack(ctx, got, file.programs, bin); err != nil {
			return err
		}
		if err := os.Remove(got); err != nil {
			return err
		}
	}
	return nil
}

// fetch downloads a file into the cache and checks its digest; a file with another digest is
// removed.
func (d *downloader) fetch(ctx context.Context, r recipe, file remote) (string, error) {
	from := d.sites(r.Upstream.base())
	want, ok := d.o.pins.of(file.path)
	if !ok {
		return "", &UnpinnedError{Files: []string{file.path}}
	}
	parts := filepath.Join(d.o.CacheDir, "parts")
	if err := os.MkdirAll(parts, 0o750); err != nil {
		return "", err
	}
	// The digest is part of the name, so that only a download of the same file is resumed.
	part := filepath.Join(parts, want[:16]+"-"+path.Base(file.path))
	resumed, err := d.transfer(ctx, r, from, file.path, part)
	if err != nil {
		return "", err
	}
	sum, err := fileDigest(ctx, part)
	if err != nil {
		return "", err
	}
	if sum == want {
		return part, nil
	}
	if err := os.Remove(part); err != nil {
		return "", err
	}
	if resumed {
		d.retrying(r, fmt.Errorf("%s does not match its beginning from an earlier run: downloading it again", from.where(file.path)))
		return d.fetch(ctx, r, file)
	}
	return "", fmt.Errorf("%s has the SHA-256 %s, but %s is pinned for it: it is damaged or was tampered with, and is removed",
		from.where(file.path), sum, want)
}

// published returns the digest that upstream publishes for a file.
func (d *downloader) published(ctx context.Context, r recipe, from site, file remote) (string, error) {
	at, parse := file.digest, parseDigest
	if file.release != "" && d.o.Mirror == "" {
		var base string
		base, at = path.Split(file.release)
		from, parse = d.sites(strings.TrimSuffix(base, "/")), parseRelease
	}
	var content []byte
	err := d.attempts(ctx, r, func() (err error) {
		content, err = readAll(ctx, from, at)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("published digest: %w", err)
	}
	digest, err := parse(string(content), file.path)
	if err != nil {
		return "", fmt.Errorf("published digest: %s: %w", from.where(at), err)
	}
	return digest, nil
}

// readAll reads a small file of a site.
func readAll(ctx context.Context, from site, at string) ([]byte, error) {
	const limit = 4 << 20
	body, err := from.open(ctx, at, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil {
		return nil, &transientError{fmt.Errorf("%s: %w", from.where(at), err)}
	}
	return content, nil
}

// transfer downloads a file to part, and resumes after the bytes that part already has. resumed
// means that an earlier run left some.
func (d *downloader) transfer(ctx context.Context, r recipe, from site, at, part string) (resumed bool, err error) {
	out, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a file of the cache
	if err != nil {
		return false, err
	}
	defer out.Close() //nolint:errcheck // closed below where it counts
	had, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	report := func(done, total int64) {
		d.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Downloading, Detail: path.Base(at), Done: done, Total: total})
	}
	err = d.attempts(ctx, r, func() error { return receive(ctx, from, at, out, report) })
	if err != nil {
		return false, err
	}
	return had > 0, out.Close()
}

// receive appends the rest of the file to out, or rewrites out from the beginning if the site
// cannot resume. It reports the bytes that out has, and those of the whole file.
func receive(ctx context.Context, from site, at string, out *os.File, report func(done, total int64)) error {
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	body, err := from.open(ctx, at, have)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read
	if err := out.Truncate(body.start); err != nil {
		return err
	}
	if _, err := out.Seek(body.start, io.SeekStart); err != nil {
		return err
	}
	var broken *os.PathError
	_, err = io.Copy(out, &meter{Reader: body, done: body.start, total: body.size, report: report})
	if errors.As(err, &broken) { // the disk, which is not going to recover
		return err
	}
	if err != nil {
		return &transientError{fmt.Errorf("%s broke off: %w", from.where(at), err)}
	}
	return nil
}

// attempts does something again while it fails for a reason that is known to pass, as long as
// pauses are left.
func (d *downloader) attempts(ctx context.Context, r recipe, do func() error) error {
	for _, pause := range d.pauses {
		err := do()
		var transient *transientError
		if err == nil || ctx.Err() != nil || !errors.As(err, &transient) {
			return err
		}
		d.retrying(r, err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	return do()
}

func (d *downloader) retrying(r recipe, why error) {
	d.o.Progress(Event{Component: r.Component, Version: r.Version, Phase: Retrying, Detail: why.Error()})
}

// unpack puts programs into bin: the file itself, or members of it if it is an archive.
func unpack(ctx context.Context, file string, programs map[string]string, bin string) error {
	if name, plain := programs[""]; plain {
		return copyFile(file, filepath.Join(bin, name))
	}
	in, err := os.Open(file) //nolint:gosec // a file of the cache
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	unzipped, err := gzip.NewReader(&contextReader{ctx, in})
	if err != nil {
		return fmt.Errorf("unpack %s: %w", file, err)
	}
	missing := make(map[string]bool)
	for member := range programs {
		missing[member] = true
	}
	archive := tar.NewReader(unzipped)
	for len(missing) > 0 {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", file, err)
		}
		member := path.Clean(header.Name)
		if !missing[member] || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeMember(filepath.Join(bin, programs[member]), archive, header.Size); err != nil {
			return fmt.Errorf("unpack %s: %s: %w", file, member, err)
		}
		delete(missing, member)
	}
	if len(missing) > 0 {
		return fmt.Errorf("unpack %s: %s not in it", file, strings.Join(sortedKeys(missing), ", "))
	}
	return nil
}

func writeMember(file string, from io.Reader, size int64) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // hosts execute it
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // closed below where it counts
	if _, err := io.CopyN(out, from, size); err != nil {
		return err
	}
	return out.Close()
}

func sortedKeys(set map[string]bool) []string {
	var keys []string
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
