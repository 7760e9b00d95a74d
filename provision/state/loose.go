package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// looseDirs are the directories with loose names: of any size and number, written often, and
// independent of each other and of everything else. A bucket stores each of them as a separate
// object, so that writing one is a small request that does not rewrite all secrets. The
// disadvantage is that a Put of several is not atomic.
var looseDirs = []string{"runs"}

// IsLoose reports whether a bucket stores a name as a separate object.
func IsLoose(name string) bool {
	dir, _, below := strings.Cut(name, "/")
	return below && slices.Contains(looseDirs, dir)
}

// checkLoose requires loose names to be flat, so that none can be a directory of another. This
// needs no request to the bucket.
func checkLoose(names []string) error {
	for _, name := range names {
		dir, rest, _ := strings.Cut(name, "/")
		if slices.Contains(looseDirs, dir) && (rest == "" || strings.Contains(rest, "/")) {
			return fmt.Errorf("name %q: below %s/ names must have exactly one more segment", name, dir)
		}
	}
	return nil
}

// Loose names are stored below a prefix (a place) that belongs to one data key. Re-encryption first
// writes them to the new key's place. Then the document is written with the new key, which makes
// this place valid. Then all other places are removed. If the process is killed in between, either
// the old or the new place is valid and complete, and the next writer removes the other.
const (
	looseDir = "loose"
	// transfers is the number of loose names written or removed in parallel.
	transfers = 16
)

// placeOf returns the place of loose names for the document's header.
func placeOf(header []byte) string {
	if len(header) == 0 {
		return looseDir + "/plain/"
	}
	sum := sha256.Sum256(header)
	return looseDir + "/" + hex.EncodeToString(sum[:8]) + "/"
}

func (d document) place() string { return placeOf(d.Items[keyName]) }

// bucketView is a snapshot of the document, and the current loose names that belong to it. If the
// loose names have moved to another place, it loads the newer document.
type bucketView struct {
	bucket   *bucket
	document document
}

func (v *bucketView) get(ctx context.Context, name string) ([]byte, error) {
	if !IsLoose(name) {
		return v.document.get(name)
	}
	for {
		o, err := v.bucket.read(ctx, v.document.place()+name)
		if !errors.Is(err, fs.ErrNotExist) {
			return o.body, err
		}
		switch moved, err := v.refresh(ctx); {
		case err != nil:
			return nil, err
		case !moved:
			return v.document.get(name) // early versions stored loose names there
		}
	}
}

func (v *bucketView) names(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	for moved := prefix == "" || IsLoose(prefix); moved; {
		var err error
		if keys, err = v.bucket.list(ctx, v.document.place()); err != nil {
			return nil, err
		}
		if moved, err = v.refresh(ctx); err != nil {
			return nil, err
		}
	}
	names := v.document.names(prefix)
	for _, key := range keys {
		name := strings.TrimPrefix(key, v.document.place())
		if strings.HasPrefix(name, prefix) && IsLoose(name) && checkName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// refresh checks whether loose names have moved since the document was read.
func (v *bucketView) refresh(ctx context.Context) (moved bool, err error) {
	d, err := v.bucket.look(ctx)
	if err != nil || d.place() == v.document.place() {
		return false, err
	}
	v.document = d
	return true, nil
}

// underLease calls do, whose requests are unconditional, for each of names, in order and several in
// parallel. If the lock is lost, it cancels requests in flight and returns. A request that still
// arrives late can only overwrite loose names.
func (b *bucket) underLease(ctx context.Context, limit int, names []string, do func(ctx context.Context, name string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.lease.lost, cancel)()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for _, name := range names {
		group.Go(func() error {
			if err := b.lease.sure(ctx); err != nil {
				return err
			}
			return do(ctx, name)
		})
	}
	err := group.Wait()
	if err != nil && b.lease.lost.Err() != nil {
		return context.Cause(b.lease.lost)
	}
	return err
}

func (b *bucket) putLoose(ctx context.Context, place string, items map[string][]byte) error {
	return b.underLease(ctx, transfers, slices.Sorted(maps.Keys(items)), func(ctx context.Context, name string) error {
		return b.write(ctx, place+name, items[name])
	})
}

func (b *bucket) removeKeys(ctx context.Context, limit int, keys []string) error {
	return b.underLease(ctx, limit, keys, func(ctx context.Context, key string) error { return b.delete(ctx, key, "") })
}

// sweep removes all places of loose names except one.
func (b *bucket) sweep(ctx context.Context, but string) error {
	keys, err := b.list(ctx, looseDir+"/")
	if err != nil {
		return err
	}
	return b.removeKeys(ctx, transfers, slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, but) }))
}

// tidy finishes the work of an earlier writer, once the document is claimed.
func (b *bucket) tidy(ctx context.Context) error {
	d, err := b.look(ctx)
	if err != nil {
		return err
	}
	if err := b.sweep(ctx, d.place()); err != nil {
		return err
	}
	strays, _ := split(d.Items)
	if len(strays) == 0 {
		return nil
	}
	if err := b.putLoose(ctx, d.place(), strays); err != nil {
		return err
	}
	return b.change(ctx, func(have map[string][]byte) error {
		for name := range strays {
			delete(have, name)
		}
		return nil
	})
}

// split separates loose names from those in the document.
func split(items map[string][]byte) (loose, others map[string][]byte) {
	loose, others = map[string][]byte{}, map[string][]byte{}
	for name, content := range items {
		if IsLoose(name) {
			loose[name] = content
		} else {
			others[name] = content
		}
	}
	return loose, others
}
