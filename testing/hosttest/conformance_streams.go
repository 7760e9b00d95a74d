package hosttest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"slipway.dev/slipway/provision/host"
)

// streamed is a file whose content comes from a reader, and has the digest of want.
func streamed(path, want string, from io.Reader) host.File {
	sum := sha256.Sum256([]byte(want))
	return host.File{
		Path: path, Mode: 0o755, Size: int64(len(want)), SHA256: hex.EncodeToString(sum[:]),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(from), nil },
	}
}

func testWriteStreams(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	big := strings.Repeat("0123456789abcdef", 100_000)
	write(
		t, h, streamed(dir+"/sub/big", big, iotest.HalfReader(strings.NewReader(big))), streamed(dir+"/empty", "", strings.NewReader("")),
		host.File{Path: dir + "/plain", Mode: 0o600, Content: []byte("plain")},
	)
	expectTree(t, h, dir, "-rwxr-xr-x ME empty", "-rw------- ME plain", "drwxr-xr-x ME sub", "-rwxr-xr-x ME sub/big")
	if content(t, h, dir+"/sub/big") != big || content(t, h, dir+"/plain") != "plain" {
		t.Error("the content is another")
	}
}

// testWriteStreamsFails: what is not what it should be gets nowhere, nor does what comes with it.
func testWriteStreamsFails(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o600, Content: []byte("old")})
	const want = "what should arrive"
	broken := errors.New("the disk is gone")
	unopened := streamed(dir+"/a", want, nil)
	unopened.Open = func() (io.ReadCloser, error) { return nil, broken }
	both := streamed(dir+"/a", want, strings.NewReader(want))
	both.Content = []byte(want)
	link := streamed(dir+"/a", want, strings.NewReader(want))
	link.Mode |= fs.ModeSymlink
	loose := streamed(dir+"/a", want, strings.NewReader(want))
	loose.SHA256 = "'; exit 0; '"
	for name, test := range map[string]struct {
		file host.File
		is   error
		says string
	}{
		"other content":   {streamed(dir+"/a", want, strings.NewReader(strings.ToUpper(want))), nil, dir + "/a arrived with another content"},
		"too short":       {streamed(dir+"/a", want, strings.NewReader("what")), io.ErrUnexpectedEOF, dir + "/a"},
		"too long":        {streamed(dir+"/a", want, strings.NewReader(want+"!")), nil, dir + "/a"},
		"breaks off":      {streamed(dir+"/a", want, io.MultiReader(strings.NewReader("what"), iotest.ErrReader(broken))), broken, dir + "/a"},
		"does not open":   {unopened, broken, dir + "/a"},
		"content as well": {both, nil, "streamed"},
		"a link":          {link, nil, "streamed"},
		"no digest":       {loose, nil, "streamed"},
	} {
		err := h.Write(timeout(t), []host.File{{Path: dir + "/new", Mode: 0o600}, test.file})
		var failed *host.WriteError
		if !errors.As(err, &failed) || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(timeout(t))
	interrupted := errors.New("interrupted")
	stalls, stalled := io.Pipe()
	defer func() { _ = stalled.Close() }()
	go func() {
		_, _ = io.WriteString(stalled, "what")
		cancel(interrupted)
	}()
	if err := h.Write(ctx, []host.File{streamed(dir+"/a", want, stalls)}); !errors.Is(err, interrupted) {
		t.Errorf("cancelled: got %v", err)
	}
	expectTree(t, h, dir, "-rw------- ME a")
	if got := content(t, h, dir+"/a"); got != "old" {
		t.Errorf("the target holds %q", got)
	}
}
