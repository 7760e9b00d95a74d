package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Layout below the prefix: "state.json", a document; "lock", a lockText; "logs/<name>"; "loose/<place>/<name>", see
// loose.go.
//
// All contents but loose ones are in the one document, which a conditional write replaces: so a put is all or nothing,
// every version that the bucket keeps is a whole state to go back to, and who has lost the lock cannot write, whatever
// the clocks say.
const (
	documentKey = "state.json"
	lockKey     = "lock"

	// closing is how long giving up the lock, or storing a log, may take.
	closing = 30 * time.Second
)

// S3 is a place in a bucket. Credentials are what the AWS SDK finds: environment, profile, web identity, instance.
type S3 struct {
	Bucket string
	// Prefix is that of all keys, without slashes at its ends; it is the state's own.
	Prefix string
	// Region is that of the bucket; empty is the SDK's, from AWS_REGION or the profile.
	Region string
	// Endpoint is the URL of a server that is not AWS; empty is AWS.
	Endpoint string
	// PathStyle has the bucket in the path of URLs, not in the host name.
	PathStyle bool

	http aws.HTTPClient // for tests; nil is the SDK's
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

// snapshot is the document as it was read or written last.
type snapshot struct {
	document
	etag string // "" is none, and current means nothing then
}

// document is the state in a bucket, without what is loose.
type document struct {
	Version int `json:"version"`
	// Writer is the ID of the lock under which this was written, Generation how many times that has happened: no two
	// documents are the same, so neither are their ETags.
	Writer     string `json:"writer"`
	Generation int    `json:"generation"`
	// Items are contents by name; those of an encrypted state are age files.
	Items map[string][]byte `json:"items"`
}

func openBucket(ctx context.Context, at S3) (*bucket, error) {
	if at.Endpoint != "" && at.Region == "" {
		at.Region = "us-east-1" // what servers other than AWS go by; a signature needs one
	}
	options := []func(*config.LoadOptions) error{
		// Servers other than AWS may not know the newer checksums.
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

// lock also claims the document. From there on nobody who had the lock before can write: its ETag has changed.
func (b *bucket) lock(ctx context.Context) error {
	l, err := b.acquire(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.lease, b.current = l, snapshot{}
	b.mu.Unlock()
	for {
		// One who lost the lock may still get a write in before ours, but not a second.
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

// look reads the document, unless this is the writer, who knows it. Several readers do not wait for each other.
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

// load gives what is known where that is still right, and an error that is fs.ErrNotExist where there is no state.
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
	const damaged = "its " + documentKey + " is damaged; the bucket's version history may have it whole: %w"
	var d document
	err := json.Unmarshal(text, &d)
	if d.Version > version { // before all else, for the rest may have another meaning
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

// put writes loose names first. With another data key they go to its place, where they count once the document does.
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

// checkPlaces refuses a name that is a directory of another one, as a file system would.
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

// remove goes through loose names in their order, and takes all others at once.
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

// change replaces the document by an edited one. Only one goroutine at a time calls it.
func (b *bucket) change(ctx context.Context, edit func(map[string][]byte) error) error {
	if b.lease.lost.Err() != nil {
		return context.Cause(b.lease.lost)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.current
	if was.etag == "" { // the first time, and after a write whose end is not known
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

func (b *bucket) log(name string) (io.WriteCloser, error) {
	return &bucketLog{bucket: b, name: name}, nil
}

// bucketLog keeps a log in memory until it is closed: S3 has no appending.
type bucketLog struct {
	bucket *bucket
	name   string
	mu     sync.Mutex
	text   bytes.Buffer
}

func (l *bucketLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *bucketLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	key := path.Join(logsDir, l.name)
	before, err := l.bucket.read(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store log %s: %w", l.name, err)
	}
	if err := l.bucket.write(ctx, key, slices.Concat(before.body, l.text.Bytes())); err != nil {
		return fmt.Errorf("store log %s: %w", l.name, err)
	}
	return nil
}

// destroy deletes loose names, then the document: without it there is no state. Of the bucket's version history nothing
// is removed.
func (b *bucket) destroy(ctx context.Context) error {
	if err := b.change(ctx, unchanged); err != nil { // the lock is ours
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
