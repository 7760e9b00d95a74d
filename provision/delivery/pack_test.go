package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// content is what compresses to something, with its SHA-256.
func content(t *testing.T, size int) (file, sum string, data []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for len(data) < size {
		data = append(data, bytes.Repeat([]byte{byte(r.IntN(256))}, 1+r.IntN(9))...)
	}
	file = filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, sumOf(data), data
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestPackAndUnpack: what was packed is smaller, and unpacks to what it was; gzip's own program
// reads the other format.
func TestPackAndUnpack(t *testing.T) {
	file, sum, data := content(t, 3<<20)
	dir := t.TempDir()
	b, err := NewPacker(dir).Pack(t.Context(), file, sum, Zstd)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(b.File)
	if err != nil || info.Size() != b.Size || b.Size > 2<<20 || b.Plain != sum || filepath.Base(b.File) != b.Name() {
		t.Errorf("got %+v, %v", b, err)
	}
	target := filepath.Join(t.TempDir(), "deep", "program")
	if err := Unpack(t.Context(), b.File, target, 0o751); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(target)
	info, statErr := os.Stat(target)
	if err != nil || statErr != nil || !bytes.Equal(got, data) || info.Mode() != 0o751 {
		t.Errorf("%d bytes, %v, %v, %v", len(got), info, err, statErr)
	}
	if b, err = NewPacker(dir).Pack(t.Context(), file, sum, Gzip); err != nil {
		t.Fatal(err)
	}
	if got, err := exec.CommandContext(t.Context(), "gzip", "-dc", b.File).Output(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("gzip reads %d bytes: %v", len(got), err)
	}
}

// TestPackOnce: calls share the work, later runs use it, and what is damaged is made again, the
// same.
func TestPackOnce(t *testing.T) {
	file, sum, _ := content(t, 1<<20)
	dir := filepath.Join(t.TempDir(), "packed")
	p := NewPacker(dir)
	blobs, errs := make([]Blob, 8), make([]error, 8)
	var calls sync.WaitGroup
	for i := range blobs {
		calls.Go(func() { blobs[i], errs[i] = p.Pack(t.Context(), file, sum, Zstd) })
	}
	calls.Wait()
	for i := range blobs {
		if errs[i] != nil || blobs[i] != blobs[0] {
			t.Errorf("%+v, %v", blobs[i], errs[i])
		}
	}
	if names := list(t, dir); len(names) != 1 || names[0] != blobs[0].Name() {
		t.Errorf("there is %q", names)
	}
	if err := os.Remove(file); err != nil { // what is packed needs it no more
		t.Fatal(err)
	}
	if b, err := NewPacker(dir).Pack(t.Context(), file, sum, Zstd); err != nil || b != blobs[0] {
		t.Errorf("a second run: %+v, %v", b, err)
	}
	if err := os.WriteFile(blobs[0].File, []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPacker(dir).Pack(t.Context(), file, sum, Zstd); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "the bundle has changed") {
		t.Errorf("a damaged one, without what it was made of: %v", err)
	}
	if names := list(t, dir); len(names) != 0 {
		t.Errorf("there is still %q", names)
	}
}

func TestPackOfWhatHasChanged(t *testing.T) {
	file, sum, _ := content(t, 1000)
	if err := os.WriteFile(file, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := NewPacker(dir)
	if _, err := p.Pack(t.Context(), file, sum, Zstd); err == nil || !strings.Contains(err.Error(), "the bundle has changed") {
		t.Errorf("got %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Pack(over, file, sum, Gzip); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if names := list(t, dir); len(names) != 0 {
		t.Errorf("it left %q", names)
	}
}

// TestUnpackOfWhatIsWrong leaves nothing at the target, which keeps what it was.
func TestUnpackOfWhatIsWrong(t *testing.T) {
	file, sum, _ := content(t, 100000)
	b, err := NewPacker(t.TempDir()).Pack(t.Context(), file, sum, Zstd)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(b.File)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("0", 64)
	for what, tt := range map[string]struct {
		name string
		data []byte
	}{
		"cut":               {b.Name(), whole[:len(whole)-10]},
		"longer":            {b.Name(), append(bytes.Clone(whole), 0)},
		"spoilt":            {b.Name(), append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1)},
		"of another sum":    {b.Plain + "." + other + ".zst", whole},
		"of other content":  {other + "." + b.Sum + ".zst", whole},
		"without a name":    {"program.zst", whole},
		"in another format": {b.Plain + "." + b.Sum + ".gz", whole},
	} {
		dir := t.TempDir()
		packed, target := filepath.Join(t.TempDir(), tt.name), filepath.Join(dir, "program")
		if err := errors.Join(os.WriteFile(packed, tt.data, 0o600), os.WriteFile(target, []byte("old"), 0o600)); err != nil {
			t.Fatal(err)
		}
		err := Unpack(t.Context(), packed, target, 0o755)
		if err == nil || !strings.HasPrefix(err.Error(), "unpack "+target+": ") {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(target); err != nil || string(got) != "old" || len(list(t, dir)) != 1 {
			t.Errorf("%s: %.20q and %v, %v", what, got, list(t, dir), err)
		}
	}
}
