package balancer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a Run with its files.
type running struct {
	listen string
	path   string // of the configuration
	config Config
	logs   *logBuffer
	stop   func()
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs the balancer in front of backends until the test ends, and checks that it leaves nothing behind.
func start(t testing.TB, ca *testCA, backends ...*testBackend) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{listen: freeAddress(t), path: filepath.Join(dir, "config.json"), logs: &logBuffer{}}
	r.config = Config{Listen: []string{r.listen}, CAFile: filepath.Join(dir, "ca.crt")}
	for _, b := range backends {
		r.config.Backends = append(r.config.Backends, b.address)
	}
	write(t, r.config.CAFile, ca.pem)
	r.save(t)
	r.run(t)
	return r
}

func (r *running) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, r.path, slog.New(slog.NewTextHandler(r.logs, nil))) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(drainTime + 5*time.Second):
			t.Error("Run does not end")
		}
		eventually(t, "no goroutine of the balancer", func() string { return goroutines("balancer.(*server)", "balancer.(*pool)", "balancer.(*link)") })
		if t.Failed() {
			t.Logf("the balancer's log:\n%s", r.logs)
		}
	})
	t.Cleanup(r.stop)
}

func (r *running) save(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(r.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.path, text)
}

// write replaces a file in place, as a change to a file that is mounted by itself does.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what is wrong is nothing.
func eventually(t testing.TB, what string, wrong func() string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		last := wrong()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; last seen: %s", what, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// goroutines lists those whose stack has one of the names.
func goroutines(names ...string) string {
	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var found []string
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		for _, name := range names {
			if strings.Contains(stack, name) {
				found = append(found, stack)
				break
			}
		}
	}
	return strings.Join(found, "\n\n")
}

// client is a raw connection through the balancer.
type client struct {
	*net.TCPConn
	reader *bufio.Reader
	server string // the name of the backend that answered
}

// dial connects and finds out which backend answers.
func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &client{TCPConn: conn.(*net.TCPConn), reader: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = io.WriteString(conn, "."); err == nil {
		c.server, err = c.reader.ReadString('\n')
		c.server = strings.TrimSpace(c.server)
	}
	if err == nil {
		_, err = c.reader.ReadByte()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func mustDial(t testing.TB, address string) *client {
	t.Helper()
	var c *client
	eventually(t, "a listener", func() string {
		var err error
		if c, err = dial(address); errors.Is(err, syscall.ECONNREFUSED) {
			return err.Error()
		} else if err != nil {
			t.Fatalf("through the balancer: %v", err)
		}
		return ""
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo sends a line and reports what is wrong with the answer.
func (c *client) echo(line string) error {
	if _, err := fmt.Fprintln(c, line); err != nil {
		return err
	}
	got, err := c.reader.ReadString('\n')
	if err == nil && got != line+"\n" {
		err = fmt.Errorf("echo is %q", got)
	}
	return err
}

// servers opens n connections at once and counts which backends they reach.
func servers(t testing.TB, address string, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		count[mustDial(t, address).server]++
	}
	return count
}

func TestSpreadsByConnections(t *testing.T) {
	ca := newTestCA(t)
	a, b, c := startBackend(t, ca, "a"), startBackend(t, ca, "b"), startBackend(t, ca, "c")
	r := start(t, ca, a, b, c)
	eventually(t, "all ready", r.logged(`"API server is ready"`, 3))
	count := servers(t, r.listen, 9)
	for _, name := range []string{"a", "b", "c"} {
		if count[name] != 3 {
			t.Errorf("9 connections went to %v, want 3 each", count)
		}
	}
}

// logged reports until the log has a text n times.
func (r *running) logged(text string, n int) func() string {
	return func() string {
		if got := strings.Count(r.logs.String(), text); got < n {
			return fmt.Sprintf("%d of %d %s in the log", got, n, text)
		}
		return ""
	}
}

func TestFailoverAndRecovery(t *testing.T) {
	ca := newTestCA(t)
	a, b := startBackend(t, ca, "a"), startBackend(t, ca, "b")
	r := start(t, ca, a, b)
	eventually(t, "all ready", r.logged(`"API server is ready"`, 2))
	watch := mustDial(t, r.listen)
	other := map[string]*testBackend{"a": b, "b": a}
	dead := map[string]*testBackend{"a": a, "b": b}[watch.server]
	alive := other[watch.server]

	dead.stop()
	begin := time.Now()
	for range 5 { // not one client notices, from the first on
		c, err := dial(r.listen)
		if err != nil {
			t.Fatalf("right after one of two died: %v", err)
		}
		if c.server != alive.name {
			t.Fatalf("reached %s, which is dead", c.server)
		}
		_ = c.Close()
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("five connections took %v", took)
	}
	if err := watch.echo("still there?"); err == nil {
		t.Error("a connection to the dead server goes on")
	}

	dead.start(t)
	eventually(t, "connections to the server that is back", func() string {
		if count := servers(t, r.listen, 4); count[dead.name] == 0 {
			return fmt.Sprint(count)
		}
		return ""
	})
}

func TestFirstReadyServerIsReachedAtOnce(t *testing.T) {
	ca := newTestCA(t)
	a, b := newTestBackend(t, ca, "a"), newTestBackend(t, ca, "b")
	r := start(t, ca, a, b)
	eventually(t, "both down", r.logged(`"API server is down"`, 2))
	b.status.Store(http.StatusInternalServerError)
	b.start(t)
	eventually(t, "not ready", r.logged(`"API server is not ready"`, 1))

	type result struct {
		*client
		err error
		at  time.Time
	}
	held := make(chan result)
	go func() {
		c, err := dial(r.listen)
		held <- result{c, err, time.Now()}
	}()
	select {
	case got := <-held:
		t.Fatalf("a client was let through to a server that is not ready: %+v", got)
	case <-time.After(500 * time.Millisecond):
	}
	b.status.Store(http.StatusOK)
	begin := time.Now()
	got := <-held
	if got.err != nil || got.server != "b" {
		t.Fatalf("got %+v", got)
	}
	defer func() { _ = got.Close() }()
	if took := got.at.Sub(begin); took > seekInterval+150*time.Millisecond {
		t.Errorf("the held client was connected %v after the server was ready", took)
	}
}

func TestFailsOpen(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, r *running, b *testBackend){
		"certificate of another CA": func(t *testing.T, r *running, _ *testBackend) {
			write(t, r.config.CAFile, newTestCA(t).pem)
			eventually(t, "the verdict", r.logged(`"API server is not judged"`, 1))
		},
		"anonymous requests refused": func(t *testing.T, r *running, b *testBackend) {
			b.status.Store(http.StatusUnauthorized)
			eventually(t, "the verdict", r.logged(`"API server is not judged"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newTestCA(t)
			b := startBackend(t, ca, "b")
			r := start(t, ca, b)
			eventually(t, "ready", r.logged(`"API server is ready"`, 1))
			spoil(t, r, b)
			begin := time.Now()
			if got := mustDial(t, r.listen).server; got != "b" {
				t.Errorf("reached %q", got)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("never ready", func(t *testing.T) {
		ca := newTestCA(t)
		dead, b := newTestBackend(t, ca, "dead"), startBackend(t, ca, "b")
		b.status.Store(http.StatusInternalServerError)
		r := start(t, ca, dead, b)
		begin := time.Now()
		if got := mustDial(t, r.listen).server; got != "b" {
			t.Errorf("reached %q", got)
		}
		if took := time.Since(begin); took < holdTime || took > holdTime+2*time.Second {
			t.Errorf("took %v, want the hold of %v", took, holdTime)
		}
	})
}

func TestHalfClose(t *testing.T) {
	ca := newTestCA(t)
	b := startBackend(t, ca, "b")
	r := start(t, ca, b)
	c := mustDial(t, r.listen)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: more than the buffers on the way
	go func() {
		_, _ = c.Write(payload)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c.reader) // ends only if the end of what we sent reached the server, and its end reached us
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("got %d bytes of %d back, %v", len(got), len(payload), err)
	}
	eventually(t, "no client at the server", func() string {
		if n := b.clients.Load(); n > 0 {
			return fmt.Sprint(n, " clients")
		}
		return ""
	})
}

func TestManyConnections(t *testing.T) {
	ca := newTestCA(t)
	backends := []*testBackend{startBackend(t, ca, "a"), startBackend(t, ca, "b"), startBackend(t, ca, "c")}
	r := start(t, ca, backends...)
	_ = mustDial(t, r.listen).Close()
	before := openFiles(t)
	var clients sync.WaitGroup
	for i := range 500 {
		clients.Go(func() {
			c, err := dial(r.listen)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			defer func() { _ = c.Close() }()
			for j := range 5 {
				if err := c.echo(fmt.Sprintf("client %d line %d", i, j)); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	clients.Wait()
	eventually(t, "all connections closed", func() string {
		for _, b := range backends {
			if n := b.clients.Load(); n > 0 {
				return fmt.Sprintf("%s has %d clients", b.name, n)
			}
		}
		return goroutines("balancer.(*link)")
	})
	r.stop()
	runtime.GC() // Go's pool of pipes for splice is emptied by the collector
	runtime.GC()
	eventually(t, "files closed", func() string {
		if after := openFiles(t); after > before {
			return fmt.Sprintf("%d files open, %d before", after, before)
		}
		return ""
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

func TestShutdownDrains(t *testing.T) {
	ca := newTestCA(t)
	r := start(t, ca, startBackend(t, ca, "b"))
	short, long := mustDial(t, r.listen), mustDial(t, r.listen)
	stopped := make(chan struct{})
	begin := time.Now()
	go func() { r.stop(); close(stopped) }()
	eventually(t, "the listener closed", func() string {
		conn, err := net.Dial("tcp", r.listen)
		if err != nil {
			return ""
		}
		_ = conn.Close()
		return "a connection"
	})
	if err := short.echo("one more thing"); err != nil {
		t.Errorf("a connection was cut before the drain time: %v", err)
	}
	_ = short.Close()
	if _, err := long.reader.ReadByte(); err == nil {
		t.Error("a connection outlived the drain time")
	}
	<-stopped
	if took := time.Since(begin); took < drainTime || took > drainTime+2*time.Second {
		t.Errorf("took %v, want about %v", took, drainTime)
	}
}

func BenchmarkThroughput(b *testing.B) {
	ca := newTestCA(b)
	r := start(b, ca, startBackend(b, ca, "b"))
	c := mustDial(b, r.listen)
	_ = c.SetDeadline(time.Time{})
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	go func() {
		for range b.N {
			_, _ = c.Write(chunk)
		}
		_ = c.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c.reader); err != nil || n != int64(b.N)*int64(len(chunk)) {
		b.Errorf("%d bytes, %v", n, err)
	}
}

func BenchmarkConnect(b *testing.B) {
	ca := newTestCA(b)
	r := start(b, ca, startBackend(b, ca, "b"))
	_ = mustDial(b, r.listen).Close()
	for b.Loop() {
		c, err := dial(r.listen)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
