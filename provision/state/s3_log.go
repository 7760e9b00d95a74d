package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
)

func (b *bucket) log(name string) (io.WriteCloser, error) {
	return &bucketLog{bucket: b, name: name}, nil
}

// bucketLog keeps a log in memory until it is closed, because S3 cannot append.
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
