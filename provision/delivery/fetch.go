package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// The words that begin the lines of Fetch's output.
const (
	// FetchedAt is followed by how many bytes of the blob there are.
	FetchedAt = "at"
	// FetchRetries is followed by the reason why the transfer is tried again.
	FetchRetries = "retries"
	// FetchMissing, FetchWrong and FetchFailed are followed by the reason why the mirror did not give the
	// blob: it does not have it, has another file under its name, or does not work.
	FetchMissing = "missing"
	FetchWrong   = "wrong"
	FetchFailed  = "failed"
)

// Limits of a transfer from a mirror. Whoever waits for Fetch has others, for how fast it is.
const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 15 * time.Second // until the mirror answers
	stalled       = 30 * time.Second // of a transfer that receives nothing
	redirects     = 10
	sayEvery      = time.Second // how much there is
)

// retryPauses are before each further attempt, for reasons known to pass: a transfer that broke off,
// and a server that is busy or starts.
var retryPauses = []time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// Fetch gets the rest of a blob from a mirror, over HTTP or HTTPS, and appends it to the file in the working
// directory that has the last part of the URL as its name; what the file has already is not fetched
// again, if the server knows ranges. It writes no more than size, the bytes of the whole blob, and
// does not verify their digest. proxy says which proxy a URL is reached through; it may be nil.
//
// What happens is written to out, in lines of a word and text. That the mirror does not give the blob is
// a line too (FetchMissing, FetchWrong, FetchFailed), and no error: an error is this machine's own.
func Fetch(ctx context.Context, from string, size int64, proxy func(*http.Request) (*url.URL, error), out io.Writer) error {
	at, err := url.Parse(from)
	if err != nil {
		return err
	}
	part, err := os.OpenFile(path.Base(at.Path), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer part.Close() //nolint:errcheck // closed below where it counts
	f := &fetch{url: at, size: size, part: part, out: out, client: mirrorClient(proxy)}
	defer f.client.CloseIdleConnections()
	if err := f.attempts(ctx); err != nil {
		return err
	}
	return part.Close()
}

// fetch is one blob on its way.
type fetch struct {
	url    *url.URL
	size   int64
	part   *os.File
	out    io.Writer
	client *http.Client
	said   time.Time // when out was told how much there is
}

// refusal is why the mirror does not give a blob; word is one of the words above.
type refusal struct {
	word, why string
	passes    bool // another attempt may not meet it
}

func (r *refusal) Error() string { return r.why }

// attempts fetches, and continues what broke off.
func (f *fetch) attempts(ctx context.Context) error {
	for try := 0; ; try++ {
		err := f.more(ctx)
		var r *refusal
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &r):
			return err
		case !r.passes || try == len(retryPauses):
			return f.say(r.word, oneLine(r.why))
		}
		if err := f.say(FetchRetries, oneLine(r.why)); err != nil {
			return err
		}
		pause := time.NewTimer(retryPauses[try])
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

func (f *fetch) say(word, text string) error {
	_, err := fmt.Fprintf(f.out, "%s %s\n", word, text)
	return err
}

// longestReason is how many characters of a reason are said: a server can put any text into one, and
// whoever reads the lines bounds them.
const longestReason = 200

func oneLine(text string) string {
	return fmt.Sprintf("%.*s", longestReason, strings.Join(strings.Fields(text), " "))
}

// more fetches what is missing, in one request.
func (f *fetch) more(ctx context.Context) error {
	have, err := f.part.Seek(0, io.SeekEnd)
	if err != nil || have >= f.size {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), nil)
	if err != nil {
		return err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	res, err := f.client.Do(req)
	if err != nil {
		return &refusal{word: FetchFailed, why: plainly(err)}
	}
	defer res.Body.Close() //nolint:errcheck // only read
	have, err = f.start(res, have)
	if err != nil {
		return err
	}
	if err := f.part.Truncate(have); err != nil {
		return err
	}
	if _, err := f.part.Seek(have, io.SeekStart); err != nil {
		return err
	}
	if err := f.say(FetchedAt, strconv.FormatInt(have, 10)); err != nil {
		return err
	}
	stall := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("nothing came for %s", stalled)) })
	defer stall.Stop()
	return f.copy(ctx, io.LimitReader(res.Body, f.size-have), have, stall)
}

// start returns the position from which a response has the blob, or why it is of no use: before
// anything is written, so that what there is stays.
func (f *fetch) start(res *http.Response, have int64) (int64, error) {
	whole := func(size int64) error {
		if size == f.size {
			return nil
		}
		return &refusal{word: FetchWrong, why: fmt.Sprintf("the file there has %d bytes, want %d", size, f.size)}
	}
	switch code := res.StatusCode; {
	case code == http.StatusOK && res.ContentLength >= 0:
		return 0, whole(res.ContentLength)
	case code == http.StatusOK:
		return 0, nil
	case code == http.StatusPartialContent:
		span, total, _ := strings.Cut(res.Header.Get("Content-Range"), "/")
		if !strings.HasPrefix(span, fmt.Sprintf("bytes %d-", have)) {
			return 0, &refusal{word: FetchFailed, why: fmt.Sprintf("it gave another range than bytes from %d", have)}
		}
		if size, err := strconv.ParseInt(total, 10, 64); err == nil {
			return have, whole(size)
		}
		return have, nil // a range of a size that it does not tell
	case code == http.StatusRequestedRangeNotSatisfiable:
		return 0, &refusal{word: FetchWrong, why: fmt.Sprintf("the file there has no more than %d bytes, want %d", have, f.size)}
	// S3 forbids what does not exist, to those who must not list.
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusGone:
		return 0, &refusal{word: FetchMissing, why: status(code)}
	default:
		passes := code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
		return 0, &refusal{word: FetchFailed, why: "it answers " + status(code), passes: passes}
	}
}

// status is "404 Not Found", in Go's words: those of the server may be anything.
func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// copy appends content to the part, which has so many bytes.
func (f *fetch) copy(ctx context.Context, content io.Reader, have int64, stall *time.Timer) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := content.Read(buffer)
		if n > 0 {
			stall.Reset(stalled)
			if _, err := f.part.Write(buffer[:n]); err != nil {
				return err
			}
			have += int64(n)
		}
		if now := time.Now(); err != nil || now.Sub(f.said) >= sayEvery {
			f.said = now
			if err := f.say(FetchedAt, strconv.FormatInt(have, 10)); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case have == f.size:
			return nil
		case errors.Is(err, io.EOF):
			return &refusal{word: FetchFailed, why: "it broke off: " + io.ErrUnexpectedEOF.Error(), passes: true}
		default:
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return &refusal{word: FetchFailed, why: "it broke off: " + plainly(err), passes: true}
		}
	}
}

// plainly is an error without what differs from host to host and from time to time, and without the
// URL, which may have been redirected to one with a signature.
func plainly(err error) string {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op != "dial" { // which has no address of this machine
		err = op.Err
	}
	return err.Error()
}

func mirrorClient(proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: proxy, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headerTimeout,
			DisableCompression: true, // the digest is that of the file
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch scheme := req.URL.Scheme; {
			case scheme != "http" && scheme != "https":
				return fmt.Errorf("it redirects to %.20q, which is neither http nor https", scheme+"://")
			case scheme == "http" && via[0].URL.Scheme == "https":
				return errors.New("it redirects from https to http")
			case len(via) >= redirects:
				return fmt.Errorf("it redirects more than %d times", redirects)
			}
			return nil
		},
	}
}
