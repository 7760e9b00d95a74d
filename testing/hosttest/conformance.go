package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"slipway.dev/slipway/provision/host"
)

// scratchPrefix is of this process, as others may test on the same machine.
var scratchPrefix = fmt.Sprintf("/tmp/hosttest-%d", os.Getpid())

// Conformance is what every host.Host must do. open returns a host on which the test may make a directory under /tmp;
// it is called once for each test, which closes the host.
func Conformance(t *testing.T, open func(t *testing.T) host.Host) {
	tests := []struct {
		name string
		run  func(*testing.T, host.Host)
	}{
		{"run", testRun},
		{"exit", testExit},
		{"environment", testEnvironment},
		{"stdin", testStdin},
		{"long script", testLongScript},
		{"streams", testStreams},
		{"failing reader", testFailingReader},
		{"failing writer", testFailingWriter},
		{"too much output", testTooMuchOutput},
		{"cancel", testCancel},
		{"cancel before", testCancelBefore},
		{"cancel many", testCancelMany},
		{"parallel", testParallel},
		{"dial", testDial},
		{"write", testWrite},
		{"write directories", testWriteDirectories},
		{"write symlinks", testWriteSymlinks},
		{"write owners", testWriteOwners},
		{"write refuses", testWriteRefuses},
		{"write fails", testWriteFails},
		{"write cancelled", testWriteCancelled},
		{"write full disk", testWriteFullDisk},
		{"write stale", testWriteStale},
		{"write secrets", testWriteSecrets},
		{"write atomically", testWriteAtomically},
		{"write streams", testWriteStreams},
		{"write streams fails", testWriteStreamsFails},
		{"write names", testWriteNames},
		{"write big", testWriteBig},
		{"write many", testWriteMany},
		{"read", testRead},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := open(t)
			defer func() {
				sh(t, h, "rm -rf %s.*", scratchPrefix)
				if err := h.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			test.run(t, h)
		})
	}
}

// sh runs a script that has to succeed and returns what it printed.
func sh(t testing.TB, h host.Host, script string, args ...any) string {
	t.Helper()
	r, err := h.Run(timeout(t), host.Cmd{Script: fmt.Sprintf(script, args...)})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(r.Stdout), "\n")
}

// scratch makes an empty directory on the host; Conformance removes those it made.
func scratch(t testing.TB, h host.Host) string {
	t.Helper()
	return sh(t, h, "d=$(mktemp -d %s.XXXXXX) && chmod 0755 $d && echo $d", scratchPrefix)
}

func testRun(t *testing.T, h host.Host) {
	r, err := h.Run(timeout(t), host.Cmd{Script: "echo out; echo err >&2"})
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" {
		t.Errorf("got %q and %q", r.Stdout, r.Stderr)
	}
	if got := sh(t, h, `x='it'"'"'s "quoted" $HOME \n'; printf '%%s' "$x"`); got != `it's "quoted" $HOME \n` {
		t.Errorf("quoting: got %s", got)
	}
	if h.Name() == "" {
		t.Error("the host has no name")
	}
}

func testExit(t *testing.T, h host.Host) {
	long := strings.Repeat("all of it\n", 20000)
	for _, test := range []struct {
		script, signal, stderr string
		code                   int
	}{
		{script: "exit 3", code: 3},
		{script: "echo why >&2; exit 255", code: 255, stderr: "why\n"},
		{script: "no-such-command", code: 127, stderr: "not found"},
		{script: "kill -KILL $$", code: 137, signal: "KILL"},
		{script: "i=0; while [ $i -lt 20000 ]; do echo 'all of it'; i=$((i+1)); done >&2; exit 1", code: 1, stderr: long},
	} {
		_, err := h.Run(timeout(t), host.Cmd{Script: test.script})
		var exit *host.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s: got %v, want an *ExitError", test.script, err)
			continue
		}
		if exit.Code != test.code || exit.Signal != test.signal || !strings.Contains(exit.Stderr, test.stderr) {
			t.Errorf("%s: got code %d, signal %q, %d bytes of stderr", test.script, exit.Code, exit.Signal, len(exit.Stderr))
		}
		if exit.Host != h.Name() || exit.Script != test.script {
			t.Errorf("%s: the error names %q and %q", test.script, exit.Host, exit.Script)
		}
	}
	_, err := h.Run(timeout(t), host.Cmd{Script: "# " + strings.Repeat("é", 200) + "\nexit 1"})
	var exit *host.ExitError
	if !errors.As(err, &exit) || len([]rune(exit.Script)) != 120 || !strings.HasPrefix(exit.Script, "# éé") {
		t.Errorf("a long first line: got %v", err)
	}
}

func testEnvironment(t *testing.T, h host.Host) {
	got := sh(t, h, `echo "$(id -u) $(umask) $LC_ALL"; case :$PATH: in *:/usr/sbin:*) echo sbin;; esac`)
	uid := sh(t, h, "id -u")
	if want := uid + " 0022 C\nsbin"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testStdin(t *testing.T, h host.Host) {
	big := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
	r, err := h.Run(timeout(t), host.Cmd{Script: "cat", Stdin: bytes.NewReader(big)})
	if err != nil || !bytes.Equal(r.Stdout, big) {
		t.Errorf("echoed %d of %d bytes: %v", len(r.Stdout), len(big), err)
	}
	if got := sh(t, h, "cat; echo end"); got != "end" {
		t.Errorf("nil stdin is not empty: %q", got)
	}
	if _, err = h.Run(timeout(t), host.Cmd{Script: "exit 0", Stdin: bytes.NewReader(big)}); err != nil {
		t.Errorf("a script that does not read its input: %v", err)
	}
	// A reader that never ends must not hold a script that has.
	r2, w := io.Pipe()
	defer func() { _ = w.Close() }()
	if _, err = h.Run(timeout(t), host.Cmd{Script: "exit 0", Stdin: r2}); err != nil {
		t.Errorf("a script that ends before its input: %v", err)
	}
}

func testLongScript(t *testing.T, h host.Host) {
	padding := strings.Repeat("# it's a 'long' one\n", 20000)
	r, err := h.Run(timeout(t), host.Cmd{Script: padding + "cat\nexit 7", Stdin: strings.NewReader("input")})
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || string(r.Stdout) != "input" {
		t.Errorf("got %q, %v", r.Stdout, err)
	}
}

// Lines is a writer that hands each write on.
type Lines chan string

func (l Lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func testStreams(t *testing.T, h host.Host) {
	stdout := make(Lines, 10)
	var stderr bytes.Buffer
	in, out := io.Pipe()
	type outcome struct {
		host.Result
		error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := h.Run(timeout(t), host.Cmd{
			Script: "echo one; read x; echo two $x; echo no >&2; exit 1", Stdin: in, Stdout: stdout, Stderr: &stderr,
		})
		done <- outcome{r, err}
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-stdout:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(limit):
			t.Fatalf("no %q", want)
		}
	}
	expect("one\n") // before the script can end
	if _, err := io.WriteString(out, "three\n"); err != nil {
		t.Fatal(err)
	}
	expect("two three\n")
	_ = out.Close()
	o := <-done
	var exit *host.ExitError
	if !errors.As(o.error, &exit) || exit.Stderr != "no\n" || stderr.String() != "no\n" {
		t.Errorf("stderr is not whole: %v, streamed %q", o.error, stderr.String())
	}
	if len(o.Stdout)+len(o.Stderr) > 0 {
		t.Errorf("the result repeats what was streamed: %q %q", o.Stdout, o.Stderr)
	}
}

func testFailingReader(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	cause := errors.New("the reader broke")
	_, err := h.Run(timeout(t), host.Cmd{
		Script: "cat >/dev/null; touch " + dir + "/ended",
		Stdin:  io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cause)),
	})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if got := sh(t, h, "ls %s", dir); got != "" {
		t.Errorf("a broken input looked like a whole one: %s", got)
	}
}

type brokenWriter struct{ error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.error }

func testFailingWriter(t *testing.T, h host.Host) {
	cause := errors.New("the writer broke")
	_, err := h.Run(timeout(t), host.Cmd{Script: "while :; do echo y; done", Stdout: brokenWriter{cause}})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func testTooMuchOutput(t *testing.T, h host.Host) {
	r, err := h.Run(timeout(t), host.Cmd{Script: "# flood\nexec cat /dev/zero"})
	if err == nil || !strings.Contains(err.Error(), "# flood") || !strings.Contains(err.Error(), "16 MiB") {
		t.Errorf("got %v", err)
	}
	if len(r.Stdout) > 16<<20 {
		t.Errorf("held %d bytes", len(r.Stdout))
	}
}

// gone waits until none of the processes is left.
func gone(t *testing.T, h host.Host, pids string) {
	t.Helper()
	got := sh(t, h, `n=0; for p in %s; do
		while [ -d /proc/$p ] && ! grep -q '^State:.Z' /proc/$p/status && [ $n -lt 50 ]; do n=$((n+1)); sleep 0.1; done
		[ $n -lt 50 ] || { echo "$p:"; tr '\0' ' ' </proc/$p/cmdline; }
	done`, pids)
	if got != "" {
		t.Errorf("still running: %s", got)
	}
}

func testCancel(t *testing.T, h host.Host) {
	for _, script := range []string{
		"echo $$; exec sleep 1000",
		"sleep 1000 & echo $! $$; wait",
		"(sleep 1000 & echo $! $$; wait) | cat",
		"trap '' TERM; echo $$; while :; do sleep 0.1; done",
	} {
		ctx, cancel := context.WithCancelCause(timeout(t))
		stdout := make(Lines, 10)
		done := make(chan error, 1)
		go func() {
			_, err := h.Run(ctx, host.Cmd{Script: script, Stdout: stdout})
			done <- err
		}()
		var pids string
		select {
		case pids = <-stdout:
		case err := <-done:
			t.Fatalf("%s: %v", script, err)
		}
		cause := errors.New("changed my mind")
		cancel(cause)
		select {
		case err := <-done:
			if !errors.Is(err, cause) {
				t.Errorf("%s: got %v", script, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: Run does not return", script)
		}
		gone(t, h, strings.TrimSpace(pids))
	}
}

func testCancelBefore(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	ctx, cancel := context.WithCancel(timeout(t))
	cancel()
	if _, err := h.Run(ctx, host.Cmd{Script: "touch " + dir + "/ran"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := sh(t, h, "ls %s", dir); got != "" {
		t.Error("it ran all the same")
	}
}

func testCancelMany(t *testing.T, h host.Host) {
	dir := scratch(t, h)
	ctx, cancel := context.WithTimeout(timeout(t), 500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := h.Run(ctx, host.Cmd{Script: fmt.Sprintf("echo $$ >%s/$$; exec sleep 1000", dir)})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	gone(t, h, strings.ReplaceAll(sh(t, h, "ls %s", dir), "\n", " "))
}

func testParallel(t *testing.T, h host.Host) {
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			want := fmt.Sprintf("run %d", i)
			r, err := h.Run(timeout(t), host.Cmd{Script: "sleep 0.05; cat", Stdin: strings.NewReader(want)})
			if err != nil || string(r.Stdout) != want {
				t.Errorf("run %d: %q, %v", i, r.Stdout, err)
			}
		})
	}
	wg.Wait()
}

func testDial(t *testing.T, h host.Host) {
	d, ok := h.(host.Dialer)
	if !ok {
		t.Skip("this host cannot dial")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	conn, err := d.DialContext(timeout(t), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "echo"); err != nil {
		t.Fatal(err)
	}
	echo := make([]byte, 4)
	if _, err := io.ReadFull(conn, echo); err != nil || string(echo) != "echo" {
		t.Errorf("got %q, %v", echo, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var late net.Error
	if _, err := conn.Read(echo); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("a deadline that passes: %v", err)
	}
	_ = conn.Close()
	_ = listener.Close()
	if _, err := d.DialContext(timeout(t), "tcp", listener.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), h.Name()) {
		t.Errorf("a closed port: %v", err)
	}
}
