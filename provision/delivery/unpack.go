package delivery

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Unpack writes the content of a compressed file (Zstd) to a path, with a mode, in one piece or not
// at all. The file's name is a Blob's: both digests are in it, and are compared.
func Unpack(ctx context.Context, file, target string, mode fs.FileMode) error {
	if err := unpack(ctx, file, target, mode); err != nil {
		return fmt.Errorf("unpack %s: %w", target, err)
	}
	return nil
}

func unpack(ctx context.Context, file, target string, mode fs.FileMode) error {
	want, ok := ParseName(filepath.Base(file))
	if !ok || want.Format != Zstd {
		return fmt.Errorf("%s is not named after its digests and %s", file, Zstd)
	}
	in, err := os.Open(file) //nolint:gosec // the file that is named
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // programs are no secret
		return err
	}
	return inOnePiece(dir, mode, func(out io.Writer) (string, error) {
		plain, sum := sha256.New(), sha256.New()
		packed := io.TeeReader(reader{ctx, bufio.NewReaderSize(in, 1<<20)}, sum)
		content, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowSize))
		if err != nil {
			return "", err
		}
		defer content.Close()
		if _, err := io.Copy(io.MultiWriter(out, plain), content); err != nil {
			return "", err
		}
		if _, err := io.Copy(io.Discard, packed); err != nil { // what follows the last frame
			return "", err
		}
		if text(plain) != want.Plain || text(sum) != want.Sum {
			return "", fmt.Errorf("the content's SHA-256 is %s, and compressed %s: want %s and %s", text(plain), text(sum), want.Plain, want.Sum)
		}
		return target, nil
	})
}
