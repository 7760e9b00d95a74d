package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// site serves files by path: a base URL or a directory.
type site interface {
	// open returns a file from offset on, or from an earlier start if the site does not support
	// that. Temporary errors are *transientError. The content must be closed.
	open(ctx context.Context, at string, offset int64) (*content, error)
	// has quickly reports whether the file exists.
	has(ctx context.Context, at string) error
	// where returns the file's full name, for messages.
	where(at string) string
}

// content is the content of a file from start on.
type content struct {
	io.Reader
	io.Closer
	start int64
	size  int64 // of the whole file; 0 if the site does not tell
}

// transientError is a failure that another attempt may not meet.
type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

// sites chooses the site of a base: the mirror, whatever the base, if there is one.
func sites(mirror string) func(base string) site {
	client := newClient()
	return func(base string) site {
		if mirror != "" {
			base = mirror
		}
		if strings.HasPrefix(base, "http://") || strings.HasPrefix(base, "https://") {
			return &webSite{strings.TrimSuffix(base, "/"), client}
		}
		return directory(strings.TrimPrefix(base, "file://"))
	}
}

// directory is a site on this computer.
type directory string

func (d directory) where(at string) string { return filepath.Join(string(d), filepath.FromSlash(at)) }

func (d directory) has(_ context.Context, at string) error {
	_, err := os.Stat(d.where(at))
	return err
}

func (d directory) open(ctx context.Context, at string, offset int64) (*content, error) {
	f, err := os.Open(d.where(at))
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &content{&contextReader{ctx, f}, f, offset, size}, nil
}

// webSite is a site that is reached over HTTP.
type webSite struct {
	base   string
	client *http.Client
}

// stalled is how long a transfer may receive nothing.
const stalled = 60 * time.Second

func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = 30 * time.Second
	transport.DisableCompression = true // digests are of the published bytes
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return fmt.Errorf("refusing to be sent from https to %s", req.URL.Redacted())
			}
			if len(via) >= 10 {
				return errors.New("sent on ten times")
			}
			return nil
		},
	}
}

func (w *webSite) where(at string) string { return w.base + "/" + at }

func (w *webSite) has(ctx context.Context, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, w.where(at), nil)
	if err != nil {
		return err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("HEAD %s: %s", w.where(at), res.Status)
	}
	return nil
}

func (w *webSite) open(ctx context.Context, at string, offset int64) (*content, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.where(at), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	res, err := w.client.Do(req)
	if err != nil {
		cancel(nil)
		return nil, &transientError{err} // names method and URL itself
	}
	body := &watchedBody{ReadCloser: res.Body, cancel: cancel}
	switch {
	case res.StatusCode == http.StatusOK:
		offset = 0
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)):
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		// There is nothing after offset. The digest shows whether the file is complete.
		_ = body.Close()
		return &content{strings.NewReader(""), io.NopCloser(nil), offset, offset}, nil
	default:
		_ = body.Close()
		return nil, statusError(w.where(at), res)
	}
	body.timer = time.AfterFunc(stalled, func() {
		cancel(fmt.Errorf("nothing came for %s", stalled))
	})
	body.ctx = ctx
	size := int64(0)
	if res.ContentLength >= 0 {
		size = offset + res.ContentLength
	}
	return &content{body, body, offset, size}, nil
}

// statusError explains a server's refusal and whether it is temporary.
func statusError(url string, res *http.Response) error {
	err := fmt.Errorf("GET %s: %s", url, res.Status)
	switch {
	case res.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: it is not published there; check the version and the mirror", err)
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout:
		return &transientError{err}
	}
	return err
}

// watchedBody ends a transfer that stands still.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(stalled)
	}
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.cancel(nil)
	return b.ReadCloser.Close()
}
