package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Ensure returns the bundle for the options: from the cache, which takes a few milliseconds; or
// from upstream, if it can be reached and every file is pinned; or from source. A bundle in the
// cache is used if it is unchanged and was made with the current recipes. A newer compiler alone
// does not replace it, but [Build] does.
func Ensure(ctx context.Context, o Options) (*Bundle, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	rows, err := recipesFor(o.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	switch o.Source {
	case FromAuto, FromBuild, FromDownload:
	default:
		return nil, fmt.Errorf("unknown bundle source %q: want %s, %s or %s", o.Source, FromAuto, FromBuild, FromDownload)
	}
	if b := cached(ctx, o, rows); b != nil {
		return b, o.memo.save()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("bundle: %w", context.Cause(ctx))
	}
	source := o.Source
	if source == FromAuto {
		source = choose(ctx, o, rows)
	}
	if source == FromDownload {
		return downloadRows(ctx, o, rows, newDownloader(o))
	}
	b, err := buildRows(ctx, o, rows)
	if files := o.pins.unpinned(rows, o.Arch); err != nil && ctx.Err() == nil && o.Source == FromAuto && len(files) > 0 {
		err = fmt.Errorf("%w\nIt is built since a download cannot be checked: %w", err, &UnpinnedError{Files: files})
	}
	return b, err
}

// Has reports whether Ensure has the bundle for the options in the cache, unchanged.
func Has(ctx context.Context, o Options) bool {
	o, err := o.complete()
	if err != nil {
		return false
	}
	rows, err := recipesFor(o.KubernetesVersion)
	return err == nil && cached(ctx, o, rows) != nil && o.memo.save() == nil
}

// reachable is how long upstream may take to answer before it counts as unreachable.
const reachable = 3 * time.Second

// choose takes what can be verified. It asks the site of the first component for one small file.
func choose(ctx context.Context, o Options, rows []recipe) Source {
	if files := o.pins.unpinned(rows, o.Arch); len(files) > 0 {
		o.Progress(Event{Phase: Choosing, Detail: fmt.Sprintf(
			"building from source, since %d of upstream's files have no pinned SHA-256 (%s, ...)", len(files), path.Base(files[0]))})
		return FromBuild
	}
	ctx, cancel := context.WithTimeout(ctx, reachable)
	defer cancel()
	from := sites(o.Mirror)(rows[0].Upstream.base())
	at := rows[0].remotes(o.Arch)[0].digest
	if err := from.has(ctx, at); err != nil {
		o.Progress(Event{Phase: Choosing, Detail: fmt.Sprintf("building from source, since there is no %s: %v", from.where(at), err)})
		return FromBuild
	}
	o.Progress(Event{Phase: Choosing, Detail: "downloading, " + from.where(at) + " is there"})
	return FromDownload
}

// index maps requests to their bundles, so that a repeated request needs neither compilers nor
// hashing. It is <cache>/bundles/index.json.
type index struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Bundles    map[string]string `json:"bundles"` // request to digest
}

func indexFile(o Options) string { return filepath.Join(o.CacheDir, "bundles", "index.json") }

// request names what a bundle was made of: "<kubernetes version>/<arch>/<source>/<digest of all
// recipes>".
func request(o Options, rows []recipe, kind Source) (string, error) {
	var digests []byte
	for _, r := range rows {
		if kind == FromBuild {
			r = built(r)
		}
		verified := ""
		if kind == FromDownload {
			verified = o.pins.text(r, o.Arch)
		}
		digest, err := recipeDigest(r, o.Arch, verified)
		if err != nil {
			return "", err
		}
		digests = append(digests, digest...)
	}
	return fmt.Sprintf("%s/%s/%s/%s", o.KubernetesVersion, o.Arch, kind, bytesDigest(digests)[:16]), nil
}

func readIndex(o Options) (index, error) {
	empty := index{APIVersion: APIVersion, Kind: "BundleIndex", Bundles: map[string]string{}}
	data, err := os.ReadFile(indexFile(o))
	if errors.Is(err, os.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	read := empty
	if err := json.Unmarshal(data, &read); err != nil || read.Bundles == nil {
		return empty, nil // only a cache: what it forgets is found again
	}
	return read, nil
}

// cached returns a whole bundle that answers the request, or nil: none that has changed since it
// was made.
func cached(ctx context.Context, o Options, rows []recipe) *Bundle {
	known, err := readIndex(o)
	if err != nil {
		return nil
	}
	for _, kind := range []Source{FromBuild, FromDownload} {
		if o.Source != FromAuto && o.Source != kind {
			continue
		}
		key, err := request(o, rows, kind)
		if err != nil {
			return nil
		}
		if digest := known.Bundles[key]; digestName.MatchString(digest) {
			b, err := Open(filepath.Join(o.CacheDir, "bundles", digest))
			if err == nil {
				err = o.memo.check(ctx, b)
			}
			if err == nil {
				use(b.Dir)
				return b
			}
			if ctx.Err() == nil {
				o.Progress(Event{Phase: Damaged, Detail: err.Error()})
			}
		}
	}
	return nil
}

// record stores the bundle of a request. The caller must hold the lock.
func record(o Options, rows []recipe, kind Source, digest string) error {
	known, err := readIndex(o)
	if err != nil {
		return fmt.Errorf("bundle index: %w", err)
	}
	key, err := request(o, rows, kind)
	if err != nil {
		return fmt.Errorf("bundle index: %w", err)
	}
	known.Bundles[key] = digest
	if err := writeJSON(indexFile(o), known); err != nil {
		return fmt.Errorf("bundle index: %w", err)
	}
	return nil
}
