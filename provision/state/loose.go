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

// looseDirs are the directories whose names are loose: of any size and number, written often, independent of each other
// and of all else. A bucket keeps each of them as an object of its own, so that writing one is one small request, and
// not all secrets once more. The price is said at Put: with others they are not all or nothing.
var looseDirs = []string{"runs"}

// IsLoose tells names that a bucket keeps as objects of their own.
func IsLoose(name string) bool {
	dir, _, below := strings.Cut(name, "/")
	return below && slices.Contains(looseDirs, dir)
}

// checkLoose keeps loose names flat: that none is a directory of another can then be told without asking the bucket.
func checkLoose(names []string) error {
	for _, name := range names {
		dir, rest, _ := strings.Cut(name, "/")
		if slices.Contains(looseDirs, dir) && (rest == "" || strings.Contains(rest, "/")) {
			return fmt.Errorf("name %q: below %s/ names have one segment more", name, dir)
		}
	}
	return nil
}

// Loose names are kept below a place that belongs to one data key. Encrypting anew writes them to the new key's place
// first; the document, with the new key in it, then decides that this place counts; then all other places are removed.
// Killed in between, either the old place counts or the new one, each of them whole. The next writer removes the other.
const (
	looseDir = "loose"
	// transfers is how many loose names are written or removed at a time.
	transfers = 16
)

// placeOf is where loose names are while that header is the document's.
func placeOf(header []byte) string {
	if len(header) == 0 {
		return looseDir + "/plain/"
	}
	sum := sha256.Sum256(header)
	return looseDir + "/" + hex.EncodeToString(sum[:8]) + "/"
}

func (d document) place() string { return placeOf(d.Items[keyName]) }

// bucketView is a document of one moment, and the loose names that go with it as they are. The document is replaced by a
// newer one when those have moved.
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
			return v.document.get(name) // the first slipways had loose names there
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

// refresh looks whether loose names are elsewhere since the document was read.
func (v *bucketView) refresh(ctx context.Context) (moved bool, err error) {
	d, err := v.bucket.look(ctx)
	if err != nil || d.place() == v.document.place() {
		return false, err
	}
	v.document = d
	return true, nil
}

// underLease does what has no condition to each of names, in order, so many at a time. It ends when the lock is lost,
// requests that are under way included: what arrives late all the same can spoil nothing but loose names.
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

// sweep removes all places of loose names but one.
func (b *bucket) sweep(ctx context.Context, but string) error {
	keys, err := b.list(ctx, looseDir+"/")
	if err != nil {
		return err
	}
	return b.removeKeys(ctx, transfers, slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, but) }))
}

// tidy finishes what an earlier writer did not, once the document is claimed.
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

// split tells loose names from those of the document.
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
