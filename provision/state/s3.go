package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Layout below the prefix: "state.json", a document; "lock", a lockText; "logs/<name>";
// "loose/<place>/<name>", see loose.go.
//
// All contents except loose ones are in one document, which is replaced with a conditional write.
// So a put is atomic, every version that the bucket keeps is a complete state that can be restored,
// and a process that has lost the lock cannot write, whatever the clocks say.
const (
	documentKey = "state.json"
	lockKey     = "lock"

	// closing is the timeout for releasing the lock or storing a log.
	closing = 30 * time.Second
)

// S3 is a prefix in a bucket. The AWS SDK finds credentials: environment, profile, web identity,
// instance.
type S3 struct {
	Bucket string
	// Prefix of all keys, without leading and trailing slashes; only this state may use it.
	Prefix string
	// Region of the bucket; if empty, from AWS_REGION or the profile.
	Region string
	// Endpoint is the URL of a server other than AWS; empty means AWS.
	Endpoint string
	// PathStyle puts the bucket into the path of URLs, not into the host name.
	PathStyle bool

	http aws.HTTPClient // for tests; nil means the SDK's
}

func (s S3) String() string { return "s3://" + path.Join(s.Bucket, s.Prefix) }

// bucket is the backend in S3.
type bucket struct {
	client *s3.Client
	at     S3
	lease  *lease // nil without the lock

	mu      sync.Mutex // guards current
	current snapshot
}

// snapshot is the document as last read or written.
type snapshot struct {
	document
	etag string // "" means that current is unknown
}

// document is the state in a bucket, without loose names.
type document struct {
	Version int `json:"version"`
	// Writer is the ID of the lock under which this was written, and Generation counts the writes,
	// so that all documents and their ETags are different.
	Writer     string `json:"writer"`
	Generation int    `json:"generation"`
	// Items has contents by name; in an encrypted state they are age files.
	Items map[string][]byte `json:"items"`
}

func openBucket(ctx context.Context, at S3) (*bucket, error) {
	if at.Endpoint != "" && at.Region == "" {
		at.Region = "us-east-1" // the default of other servers; signatures need a region
	}
	options := []func(*config.LoadOptions) error{
		// Servers other than AWS may not support the newer checksums.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if at.Region != "" {
		options = append(options, config.WithRegion(at.Region))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if c.Region == "" {
		return nil, errors.New("no AWS region: set region in the spec, or AWS_REGION")
	}
	b := &bucket{at: at, client: s3.NewFromConfig(c, func(o *s3.Options) {
		o.UsePathStyle = at.PathStyle
		if at.Endpoint != "" {
			o.BaseEndpoint = &at.Endpoint
		}
		if at.http != nil {
			o.HTTPClient = at.http
		}
	})}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("no AWS credentials for %s: log in, set AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", b, err)
	}
	return b, nil
}

func (b *bucket) String() string { return b.at.String() }

func (b *bucket) key(name string) *string { return aws.String(path.Join(b.at.Prefix, name)) }

func (b *bucket) held() context.Context {
	if b.lease == nil {
		return context.Background()
	}
	return b.lease.lost
}

func (b *bucket) sure(ctx context.Context) error {
	if b.lease == nil {
		return ErrReadOnly
	}
	return b.lease.sure(ctx)
}

// lock also claims the document. After that, earlier holders of the lock cannot write, because the
// ETag has changed.
func (b *bucket) lock(ctx context.Context) error {
	l, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.lease, b.current = l, snapshot{}
	b.mu.Unlock()
	for {
		// A process that has lost the lock may still write once before us, but not twice.
		switch err := b.change(ctx, unchanged); {
		case err == nil:
			return b.tidy(ctx)
		case !errors.Is(err, errMoved):
			return err
		}
	}
}

func unchanged(map[string][]byte) error { return nil }

func (b *bucket) view(ctx context.Context) (view, error) {
	d, err := b.look(ctx)
	if err != nil {
		return nil, err
	}
	return &bucketView{b, d}, nil
}

// look reads the document. The writer does not read it, because it knows the content. Several
// readers do not block each other.
func (b *bucket) look(ctx context.Context) (document, error) {
	b.mu.Lock()
	known, writer := b.current, b.lease != nil
	if writer {
		defer b.mu.Unlock()
		if known.etag != "" {
			return known.document, nil
		}
	} else {
		b.mu.Unlock()
	}
	now, err := b.load(ctx, known)
	if err != nil {
		return document{}, err
	}
	if !writer {
		b.mu.Lock()
		defer b.mu.Unlock()
	}
	b.current = now
	return now.document, nil
}

// load returns the known document if it has not changed, and fs.ErrNotExist if there is no state.
func (b *bucket) load(ctx context.Context, known snapshot) (snapshot, error) {
	o, err := b.readUnless(ctx, documentKey, known.etag)
	switch {
	case errors.Is(err, errSame):
		return known, nil
	case err != nil:
		return snapshot{}, err
	}
	d, err := parseDocument(o.body)
	return snapshot{d, o.etag}, err
}

func parseDocument(text []byte) (document, error) {
	const damaged = "its " + documentKey + " is damaged; the bucket's version history may have an intact version: %w"
	var d document
	err := json.Unmarshal(text, &d)
	if d.Version > version { // check first, because the rest may have another meaning
		return document{}, &VersionError{Have: d.Version, Supported: version}
	}
	if err != nil {
		return document{}, fmt.Errorf(damaged, err)
	}
	if d.Version < 2 {
		return document{}, fmt.Errorf(damaged, fmt.Errorf("there is no format %d", d.Version))
	}
	for name := range d.Items {
		if err := checkName(name); err != nil && name != keyName {
			return document{}, fmt.Errorf(damaged, err)
		}
	}
	return d, nil
}

func (d document) get(name string) ([]byte, error) {
	content, ok := d.Items[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return content, nil
}

func (d document) names(prefix string) []string {
	names := slices.Sorted(maps.Keys(d.Items))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// put writes loose names first. With a new data key they are written to its place, which becomes
// valid with the document.
func (b *bucket) put(ctx context.Context, items map[string][]byte) error {
	loose, others := split(items)
	header, anew := others[keyName]
	if len(loose) > 0 {
		now, err := b.look(ctx)
		if err != nil {
			return err
		}
		place := now.place()
		if anew {
			place = placeOf(header)
		}
		if err := b.putLoose(ctx, place, loose); err != nil || len(others) == 0 {
			return err
		}
	}
	err := b.change(ctx, func(have map[string][]byte) error {
		maps.Copy(have, others)
		return checkPlaces(have)
	})
	if err == nil && anew {
		err = b.sweep(ctx, placeOf(header))
	}
	return err
}

// checkPlaces refuses a name that is a directory of another one, like a file system.
func checkPlaces(items map[string][]byte) error {
	for name := range items {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := items[dir]; ok {
				return fmt.Errorf("%q and %q cannot both be names", dir, name)
			}
		}
	}
	return nil
}

// remove removes loose names in order, and all others at once.
func (b *bucket) remove(ctx context.Context, names []string) error {
	var keys []string
	if slices.ContainsFunc(names, IsLoose) {
		now, err := b.look(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if IsLoose(name) {
				keys = append(keys, now.place()+name)
			}
		}
	}
	if err := b.removeKeys(ctx, 1, keys); err != nil || len(keys) == len(names) {
		return err
	}
	return b.change(ctx, func(have map[string][]byte) error {
		for _, name := range names {
			delete(have, name)
			for other := range have {
				if strings.HasPrefix(other, name+"/") {
					return fmt.Errorf("%q is not a name: there are names below it", name)
				}
			}
		}
		return nil
	})
}

// change replaces the document with an edited one. It must not be called concurrently.
func (b *bucket) change(ctx context.Context, edit func(map[string][]byte) error) error {
	if b.lease.lost.Err() != nil {
		return context.Cause(b.lease.lost)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.current
	if was.etag == "" { // the first time, and after a write with an unknown result
		var err error
		if was, err = b.load(ctx, snapshot{}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if b.lease.claimed && was.Writer != b.lease.holder.ID {
		return b.lease.lose(ctx)
	}
	items := maps.Clone(was.Items)
	if items == nil {
		items = map[string][]byte{}
	}
	if err := edit(items); err != nil {
		return err
	}
	next := document{Version: version, Writer: b.lease.holder.ID, Generation: was.Generation + 1, Items: items}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	etag, err := b.swap(ctx, documentKey, was.etag, text)
	b.current = snapshot{next, etag}
	switch {
	case errors.Is(err, errMoved) && b.lease.claimed:
		return b.lease.lose(ctx)
	case err == nil:
		b.lease.claimed = true
	}
	return err
}

// destroy deletes loose names, then the document, which ends the state. It does not remove the
// bucket's version history.
func (b *bucket) destroy(ctx context.Context) error {
	if err := b.change(ctx, unchanged); err != nil { // checks that we have the lock
		return err
	}
	loose, err := b.list(ctx, looseDir+"/")
	if err != nil {
		return err
	}
	if err := b.removeKeys(ctx, transfers, loose); err != nil {
		return err
	}
	if err := b.delete(ctx, documentKey, b.current.etag); err != nil {
		return err
	}
	logs, err := b.list(ctx, logsDir+"/")
	if err != nil {
		return err
	}
	for _, name := range logs {
		if err := b.delete(ctx, name, ""); err != nil {
			return err
		}
	}
	return b.lease.release(ctx, func(etag string) error { return b.delete(ctx, lockKey, etag) })
}

func (b *bucket) close() error {
	if b.lease == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	return b.lease.release(ctx, nil)
}
