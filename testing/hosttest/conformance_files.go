package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
)

func write(t *testing.T, h host.Host, files ...host.File) {
	t.Helper()
	if err := h.Write(timeout(t), files); err != nil {
		t.Fatal(err)
	}
}

// tree lists what is in a directory: mode, owner, path, and what links point at.
func tree(t *testing.T, h host.Host, dir string) string {
	t.Helper()
	return sh(t, h, `cd %s && find . -mindepth 1 -printf '%%M %%u:%%g %%P %%l\n' | sed 's/ *$//' | sort -k3`, host.Quote(dir))
}

func content(t *testing.T, h host.Host, path string) string {
	t.Helper()
	b, err := h.Read(timeout(t), path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func me(t *testing.T, h host.Host) string {
	t.Helper()
	return sh(t, h, "echo $(id -un):$(id -gn)")
}

func expectTree(t *testing.T, h host.Host, dir string, want ...string) {
	t.Helper()
	all := strings.ReplaceAll(strings.Join(want, "\n"), "ME", me(t, h))
	if got := tree(t, h, dir); got != all {
		t.Errorf("got\n%s\nwant\n%s", got, all)
	}
}

func testWrite(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	write(t, h)
	write(
		t, h,
		host.File{Path: dir + "/a", Mode: 0o644, Content: []byte("old")},
		host.File{Path: dir + "/deep/er/b", Mode: 0o600, Content: []byte("secret")},
		host.File{Path: dir + "/deep/c", Mode: 0o755},
		host.File{Path: dir + "/odd", Mode: 0o751, Content: []byte{0, 255, '\n'}},
	)
	sh(t, h, "chmod 0700 %s/deep", dir)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o640, Content: []byte("new")},
		host.File{Path: dir + "/deep/d", Mode: 0o444, Content: []byte("d")})
	expectTree(t, h, dir,
		"-rw-r----- ME a", "drwx------ ME deep", "-rwxr-xr-x ME deep/c", "-r--r--r-- ME deep/d",
		"drwxr-xr-x ME deep/er", "-rw------- ME deep/er/b", "-rwxr-x--x ME odd")
	for path, want := range map[string]string{"a": "new", "deep/er/b": "secret", "deep/c": "", "odd": "\x00\xff\n"} {
		if got := content(t, h, dir+"/"+path); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
}

func testWriteDirectories(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	sh(t, h, "mkdir -m 0777 %s/there", dir)
	write(
		t, h,
		host.File{Path: dir + "/secrets/inner", Mode: fs.ModeDir | 0o750},
		host.File{Path: dir + "/secrets/inner/key", Mode: 0o600},
		host.File{Path: dir + "/secrets", Mode: fs.ModeDir | 0o700},
		host.File{Path: dir + "/there", Mode: fs.ModeDir | 0o711},
		host.File{Path: dir + "/x/y/z", Mode: fs.ModeDir | 0o700},
	)
	expectTree(t, h, dir,
		"drwx------ ME secrets", "drwxr-x--- ME secrets/inner", "-rw------- ME secrets/inner/key", "drwx--x--x ME there",
		"drwxr-xr-x ME x", "drwxr-xr-x ME x/y", "drwx------ ME x/y/z")
}

func testWriteSymlinks(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	link := func(name, target string) host.File {
		return host.File{Path: dir + "/" + name, Mode: fs.ModeSymlink | 0o777, Content: []byte(target)}
	}
	sh(t, h, "mkdir %s/real", dir)
	write(t, h, link("current", "real"), link("gone", "/no/such/file"), link("up", "../elsewhere"), link("over", "real"),
		host.File{Path: dir + "/plain", Mode: 0o600})
	// A link to a directory is replaced, not entered; a file replaces a link, and a link a file.
	write(t, h, link("current", "real2"), link("plain", "it's a 'target'"), host.File{Path: dir + "/over", Mode: 0o600})
	expectTree(t, h, dir, "lrwxrwxrwx ME current real2", "lrwxrwxrwx ME gone /no/such/file", "-rw------- ME over",
		"lrwxrwxrwx ME plain it's a 'target'", "drwxr-xr-x ME real", "lrwxrwxrwx ME up ../elsewhere")
}

func testWriteOwners(t *testing.T, h host.Host) {
	if sh(t, h, "id -u") != "0" {
		t.Skip("only root gives files away")
	}
	dir := scratch(t, h)
	write(
		t, h,
		host.File{Path: dir + "/a", Mode: 0o640, Owner: "root:daemon"},
		host.File{Path: dir + "/b", Mode: 0o600, Owner: "daemon:daemon"},
		host.File{Path: dir + "/c", Mode: 0o600, Owner: "root:root"},
		host.File{Path: dir + "/d", Mode: fs.ModeDir | 0o700, Owner: "daemon:root"},
		host.File{Path: dir + "/l", Mode: fs.ModeSymlink | 0o777, Owner: "daemon:daemon", Content: []byte("c")},
	)
	expectTree(t, h, dir, "-rw-r----- root:daemon a", "-rw------- daemon:daemon b", "-rw------- root:root c",
		"drwx------ daemon:root d", "lrwxrwxrwx daemon:daemon l c")
	err := h.Write(timeout(t), []host.File{{Path: dir + "/c", Mode: 0o600, Owner: "nobody-by-that-name:root", Content: []byte("x")}})
	if err == nil || !strings.Contains(err.Error(), "nobody-by-that-name") {
		t.Errorf("an unknown owner: %v", err)
	}
	if got := content(t, h, dir+"/c"); got != "" {
		t.Errorf("replaced all the same: %q", got)
	}
}

func testWriteRefuses(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	for name, f := range map[string]host.File{
		"relative":  {Path: "a", Mode: 0o600},
		"unclean":   {Path: dir + "/../a", Mode: 0o600},
		"newline":   {Path: dir + "/a\nb", Mode: 0o600},
		"root":      {Path: "/", Mode: 0o600},
		"no mode":   {Path: dir + "/a"},
		"setuid":    {Path: dir + "/a", Mode: fs.ModeSetuid | 0o755},
		"device":    {Path: dir + "/a", Mode: fs.ModeDevice | 0o600},
		"owner":     {Path: dir + "/a", Mode: 0o600, Owner: "--reference=/etc/shadow"},
		"directory": {Path: dir + "/a", Mode: fs.ModeDir | 0o700, Content: []byte("x")},
		"link":      {Path: dir + "/a", Mode: fs.ModeSymlink},
		"twice":     {Path: dir + "/good", Mode: 0o600},
	} {
		err := h.Write(timeout(t), []host.File{{Path: dir + "/good", Mode: 0o600}, f})
		var failed *host.WriteError
		if !errors.As(err, &failed) || failed.Host != h.Name() || len(failed.Paths) != 2 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := tree(t, h, dir); got != "" {
		t.Errorf("refused writes left %s", got)
	}
}

func testWriteFails(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o600, Content: []byte("old")})
	sh(t, h, "mkdir -p %s/d/full", dir)
	before := tree(t, h, dir)
	for name, paths := range map[string][]string{
		"a file where a directory should be": {dir + "/b", dir + "/a/b"},
		"a directory where the file goes":    {dir + "/d"},
	} {
		var files []host.File
		for _, p := range paths {
			files = append(files, host.File{Path: p, Mode: 0o600, Content: []byte("new")})
		}
		err := h.Write(timeout(t), files)
		var failed *host.WriteError
		var exit *host.ExitError
		if !errors.As(err, &failed) || !errors.As(err, &exit) || !strings.Contains(err.Error(), paths[len(paths)-1]) {
			t.Errorf("%s: got %v", name, err)
		}
		if errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: taken for a full disk", name)
		}
	}
	if got := tree(t, h, dir); got != before {
		t.Errorf("before\n%s\nafter\n%s", before, got)
	}
}

func testWriteCancelled(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o600, Content: []byte("old")})
	before := tree(t, h, dir)
	// Cancelled as soon as the host has begun to write the staged file, which is too big to be done by then.
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	began := make(chan error, 1)
	go func() {
		_, err := h.Run(timeout(t), host.Cmd{Script: "until [ -s " + dir + "/.slipway-new-*/a ]; do :; done"})
		began <- err
		cancel()
	}()
	err := h.Write(ctx, []host.File{{Path: dir + "/a", Mode: 0o600, Content: make([]byte, 200<<20)}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-began; err != nil {
		t.Fatal(err)
	}
	if got := tree(t, h, dir); got != before {
		t.Errorf("before\n%s\nafter\n%s", before, got)
	}
	if got := content(t, h, dir+"/a"); got != "old" {
		t.Errorf("the target holds %.20q", got)
	}
}

func testWriteFullDisk(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	if _, err := h.Run(timeout(t), host.Cmd{Script: "mount -t tmpfs -o size=1m tmpfs " + dir}); err != nil {
		t.Skipf("needs a small disk: %v", err)
	}
	defer sh(t, h, "umount %s", dir)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o600, Content: []byte("old")})
	err := h.Write(timeout(t), []host.File{
		{Path: dir + "/b", Mode: 0o600, Content: []byte("new")},
		{Path: dir + "/a", Mode: 0o600, Content: make([]byte, 2<<20)},
	})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir+"/.slipway-new-") || !strings.Contains(err.Error(), "/a: ") {
		t.Errorf("got %v", err)
	}
	expectTree(t, h, dir, "-rw------- ME a")
	if got := content(t, h, dir+"/a"); got != "old" {
		t.Errorf("the target holds %.20q", got)
	}
}

// testWriteSecrets watches the directory, while a secret is being written, for anything that others may read.
func testWriteSecrets(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	ctx, stop := context.WithCancel(timeout(t))
	defer stop()
	seen := make(Lines, 1000)
	watcher := make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, host.Cmd{
			Script: fmt.Sprintf("while :; do find %s -type f -perm /077 -printf '%%P '; find %s -name ready -delete -printf 'ready '; done", dir, dir),
			Stdout: seen,
		})
		watcher <- err
	}()
	await := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if strings.Contains(got, want) {
					return
				}
				t.Errorf("others could read %s", got)
			case <-time.After(limit):
				t.Fatalf("the watcher does not see %s", want)
			}
		}
	}
	// The watcher sees what there is to see.
	write(t, h, host.File{Path: dir + "/public", Mode: 0o644})
	await("public")
	sh(t, h, "rm %s/public; umask 077; : >%s/ready", dir, dir)
	for ready := false; !ready; {
		select {
		case got := <-seen:
			ready = strings.Contains(got, "ready")
		case <-time.After(limit):
			t.Fatal("the watcher stopped")
		}
	}
	for len(seen) > 0 {
		<-seen
	}
	for i := range 3 {
		write(t, h, host.File{Path: dir + "/key", Mode: 0o600, Content: bytes.Repeat([]byte{byte(i)}, 10<<20)})
	}
	sh(t, h, "umask 077; : >%s/ready", dir)
	await("ready")
	stop()
	if err := <-watcher; !errors.Is(err, context.Canceled) {
		t.Errorf("the watcher: %v", err)
	}
}

// testWriteAtomically reads a file all the time while it is replaced: it is whole, old or new.
func testWriteAtomically(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1<<20) }
	write(t, h, host.File{Path: dir + "/f", Mode: 0o600, Content: version(0)})
	done := make(chan struct{})
	var wg sync.WaitGroup
	reads := 0
	wg.Go(func() {
		for {
			b, err := h.Read(timeout(t), dir+"/f")
			if err != nil || len(b) != 1<<20 || bytes.Count(b, b[:1]) != len(b) {
				t.Errorf("read %d bytes: %v", len(b), err)
			}
			reads++
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 10 {
		write(t, h, host.File{Path: dir + "/f", Mode: 0o600, Content: version(i)})
	}
	close(done)
	wg.Wait()
	if reads < 2 {
		t.Errorf("only %d reads", reads)
	}
}

func testWriteNames(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	names := []string{
		"with space", "it's", `say "so"`, "übergröße", "日本", "-rf", "*", "$HOME", "`id`", "back\\slash", "semi;colon", "tab\there",
		"a=b", "~", "#", strings.Repeat("long", 50), strings.Repeat("deep/", 60) + "file", "with two/in dir/x",
	}
	var files []host.File
	for _, n := range names {
		files = append(files, host.File{Path: dir + "/" + n, Mode: 0o600, Content: []byte(n)})
	}
	write(t, h, files...)
	for _, n := range names {
		if got := content(t, h, dir+"/"+n); got != n {
			t.Errorf("%s holds %q", n, got)
		}
	}
	if got := sh(t, h, "find %s -type f | wc -l", dir); got != fmt.Sprint(len(names)) {
		t.Errorf("%s files, want %d", got, len(names))
	}
}

func testWriteBig(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	big := make([]byte, 50<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(big)
	write(t, h, host.File{Path: dir + "/big", Mode: 0o755, Content: big})
	if got := content(t, h, dir+"/big"); got != string(big) {
		t.Errorf("read back %d other bytes", len(got))
	}
}

// testWriteMany is beyond what one command line can take.
func testWriteMany(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	var files []host.File
	for i := range 500 {
		files = append(files, host.File{Path: fmt.Sprintf("%s/%0200d", dir, i), Mode: 0o600, Content: fmt.Append(nil, i)})
	}
	write(t, h, files...)
	if got := sh(t, h, "cat %s/* | wc -c; ls -A %s | wc -l", dir, dir); got != "1390\n500" {
		t.Errorf("got %s", got)
	}
}

func testRead(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	sh(t, h, "ln -s nowhere %s/dangling; touch %s/file; mkdir %s/dir", dir, dir, dir)
	for _, path := range []string{"none", "none/none", "file/none", "dangling"} {
		_, err := h.Read(timeout(t), dir+"/"+path)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), h.Name()) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if _, err := h.Read(timeout(t), dir+"/dir"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: got %v", err)
	}
	if b, err := h.Read(timeout(t), dir+"/file"); err != nil || len(b) != 0 {
		t.Errorf("an empty file: %q, %v", b, err)
	}
}

// testWriteStale leaves nothing for good of a write whose host died, and touches no write that may be under way.
func testWriteStale(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	sh(t, h, "cd %s && mkdir .slipway-new-OLD .slipway-new-FRESH && echo x >.slipway-new-OLD/a && touch -d '2 hours ago' .slipway-new-OLD", dir)
	write(t, h, host.File{Path: dir + "/a", Mode: 0o600, Content: []byte("new")})
	expectTree(t, h, dir, "drwxr-xr-x ME .slipway-new-FRESH", "-rw------- ME a")
}
