package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Format is how a blob is compressed: the suffix of its file.
type Format string

// The formats. Every distribution has gzip; Zstd is smaller and faster, and needs slipway to be
// unpacked.
const (
	Gzip Format = "gz"
	Zstd Format = "zst"
)

// windowSize is what unpacking needs as memory: the encoder's window at the level that pack uses.
const windowSize = 16 << 20

// Blob is a compressed file on the operator's machine.
type Blob struct {
	// Plain and Sum are the SHA-256 of the content and of the compressed form, in hex.
	Plain, Sum string
	Format     Format
	// File is where the compressed form is, and Size its bytes.
	File string
	Size int64
}

// Name is the blob's file name here and on hosts.
func (b Blob) Name() string { return b.Plain + "." + b.Sum + "." + string(b.Format) }

// ParseName is the inverse of Name: the blob has no file.
func ParseName(name string) (b Blob, ok bool) {
	words := strings.Split(name, ".")
	if len(words) != 3 || words[2] != string(Gzip) && words[2] != string(Zstd) {
		return b, false
	}
	return Blob{Plain: words[0], Sum: words[1], Format: Format(words[2])}, true
}

// Packer compresses files into a directory, each once, as many at a time as there are processors. It
// may share the directory with other processes: files appear there by rename.
type Packer struct {
	dir   string
	slots chan struct{}

	mu     sync.Mutex
	packed map[string]*packing // by name without Sum
}

type packing struct {
	done chan struct{}
	blob Blob
	err  error
}

// NewPacker returns a packer for a directory, which is made when it is needed.
func NewPacker(dir string) *Packer {
	return &Packer{dir: dir, slots: make(chan struct{}, runtime.NumCPU()), packed: map[string]*packing{}}
}

// Pack returns the compressed form of a file, whose SHA-256 must be plain. Of several calls for the
// same file, one does the work. What is in the directory already is read and verified.
func (p *Packer) Pack(ctx context.Context, file, plain string, format Format) (Blob, error) {
	key := plain + "." + string(format)
	p.mu.Lock()
	work, begun := p.packed[key]
	if !begun {
		work = &packing{done: make(chan struct{})}
		p.packed[key] = work
	}
	p.mu.Unlock()
	if !begun {
		work.blob, work.err = p.pack(ctx, file, Blob{Plain: plain, Format: format})
		if work.err != nil {
			p.mu.Lock()
			delete(p.packed, key) // a later call tries again
			p.mu.Unlock()
		}
		close(work.done)
	}
	select {
	case <-work.done:
		return work.blob, work.err
	case <-ctx.Done():
		return Blob{}, context.Cause(ctx)
	}
}

func (p *Packer) pack(ctx context.Context, file string, b Blob) (Blob, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Blob{}, context.Cause(ctx)
	}
	if found, ok := p.find(ctx, b); ok {
		return found, nil
	}
	b, err := p.compress(ctx, file, b)
	if err != nil {
		return Blob{}, fmt.Errorf("compress %s: %w", file, err)
	}
	return b, nil
}

// find returns a blob that an earlier run has packed. One that is damaged is removed.
func (p *Packer) find(ctx context.Context, b Blob) (Blob, bool) {
	names, _ := filepath.Glob(filepath.Join(p.dir, b.Plain+".*."+string(b.Format))) // the pattern is well-formed
	for _, name := range names {
		b.File = name
		b.Sum = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), b.Plain+"."), "."+string(b.Format))
		sum, size, err := digest(ctx, name)
		if err == nil && sum == b.Sum {
			b.Size = size
			return b, true
		}
		if err == nil {
			_ = os.Remove(name)
		}
	}
	return Blob{}, false
}

func (p *Packer) compress(ctx context.Context, file string, b Blob) (_ Blob, err error) {
	in, err := os.Open(file) //nolint:gosec // a file of the bundle
	if err != nil {
		return b, changed(err)
	}
	defer in.Close() //nolint:errcheck // only read
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return b, err
	}
	err = inOnePiece(p.dir, 0o600, func(out io.Writer) (string, error) {
		plain, sum := sha256.New(), sha256.New()
		size := &counter{to: io.MultiWriter(out, sum)}
		w, err := encoder(size, b.Format)
		if err != nil {
			return "", err
		}
		if _, err := io.Copy(w, io.TeeReader(reader{ctx, in}, plain)); err != nil {
			return "", err
		}
		if err := w.Close(); err != nil {
			return "", err
		}
		if got := text(plain); got != b.Plain {
			return "", changed(fmt.Errorf("its SHA-256 is %s, want %s", got, b.Plain))
		}
		b.Sum, b.Size = text(sum), size.n
		b.File = filepath.Join(p.dir, b.Name())
		return b.File, nil
	})
	return b, err
}

// inOnePiece writes a file that appears by rename: at the path in dir that write returns, or not at
// all.
func inOnePiece(dir string, mode fs.FileMode, write func(io.Writer) (path string, err error)) error {
	out, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // gone after the rename
	defer out.Close()           //nolint:errcheck // closed before the rename
	path, err := write(out)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Chmod(mode), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// changed is the error of a bundle that is no longer what it was when the run began.
func changed(err error) error {
	return fmt.Errorf("%w: the bundle has changed meanwhile, `slipway apply` makes it again", err)
}

// encoder compresses with one goroutine: several files are compressed at a time.
func encoder(w io.Writer, f Format) (io.WriteCloser, error) {
	if f == Gzip {
		return gzip.NewWriterLevel(w, gzip.DefaultCompression)
	}
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(windowSize))
}

// digest returns a file's SHA-256 and its bytes.
func digest(ctx context.Context, file string) (sum string, size int64, err error) {
	f, err := os.Open(file) //nolint:gosec // a file of ours
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	size, err = io.Copy(h, reader{ctx, f})
	return text(h), size, err
}

func text(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// reader ends with a context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// counter counts what is written.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}
