package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/testing/hosttest"
)

// left is a script that holds the lock of a host, and whose connection is gone.
type left struct {
	config host.Config
	dir    string
}

// leave starts one. It ends once finish is called, and leaves the file "ended" then.
func leave(t *testing.T, patience time.Duration) *left {
	t.Helper()
	l := &left{config: hosttest.NewOpenSSH(t), dir: t.TempDir()}
	l.config.Name, l.config.Lock, l.config.Patience = "there", filepath.Join(l.dir, "lock"), patience
	t.Cleanup(func() { l.finish(t) })
	h := dial(t, l.config)
	began, ended := make(hosttest.Lines, 10), make(chan error, 1)
	go func() {
		// What waits is a child, as systemctl would be: it has the lock, too.
		script := fmt.Sprintf("echo began; sh -c 'until [ -e %[1]s/finish ]; do sleep 0.02; done'; touch %[1]s/ended", l.dir)
		_, err := h.Run(context.WithoutCancel(t.Context()), host.Cmd{Script: script, Stdout: began, Exclusive: true})
		ended <- err
	}()
	<-began
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	var lost *host.LostError
	if err := <-ended; !errors.As(err, &lost) {
		t.Fatalf("the connection is closed: %v", err)
	}
	return l
}

func (l *left) finish(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, "finish"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

func (l *left) has(name string) bool {
	_, err := os.Stat(filepath.Join(l.dir, name))
	return err == nil
}

// waiting starts a script that waits for the other, and returns once it says so.
func (l *left) waiting(t *testing.T, h host.Host, script string) (said hosttest.Lines, result chan error, out *strings.Builder) {
	t.Helper()
	said, result, out = make(hosttest.Lines, 10), make(chan error, 1), &strings.Builder{}
	go func() {
		_, err := h.Run(t.Context(), host.Cmd{Script: script, Stderr: said, Stdout: out, Exclusive: true})
		result <- err
	}()
	line := strings.TrimSpace(<-said)
	process, ok := strings.CutPrefix(line, host.LockWaiting)
	if _, err := os.Stat("/proc/" + process + "/stat"); !ok || err != nil {
		t.Errorf("it does not say whom it waits for: %q, %v", line, err)
	}
	return said, result, out
}

func TestAloneAfterALostConnection(t *testing.T) {
	l := leave(t, 0)
	h := dial(t, l.config)
	if _, err := h.Run(t.Context(), host.Cmd{Script: "true"}); err != nil {
		t.Errorf("what is not alone does not wait: %v", err)
	}
	said, result, out := l.waiting(t, h, "ls "+l.dir)
	l.finish(t)
	if line := <-said; strings.TrimSpace(line) != host.LockAcquired {
		t.Errorf("it says %q", line)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "ended\n") {
		t.Errorf("it ran beside the other: %s", out)
	}
	if info, err := os.Stat(l.config.Lock); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may open the lock: %v, %v", info, err)
	}
}

func TestAloneEndsWhatDoesNotEnd(t *testing.T) {
	l := leave(t, 200*time.Millisecond)
	_, result, out := l.waiting(t, dial(t, l.config), "echo ran")
	if err := <-result; err != nil || out.String() != "ran\n" {
		t.Errorf("%q, %v", out, err)
	}
	l.finish(t)
	if time.Sleep(100 * time.Millisecond); l.has("ended") {
		t.Error("the other goes on")
	}
}

// TestAloneBusy has the lock held by somebody who is no script.
func TestAloneBusy(t *testing.T) {
	config := hosttest.NewOpenSSH(t)
	config.Name, config.Lock, config.Patience = "there", filepath.Join(t.TempDir(), "lock"), 50*time.Millisecond
	f, err := os.OpenFile(config.Lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	h := dial(t, config)
	for process, want := range map[string]string{"": "some process", "4711": "process 4711"} {
		if err := os.WriteFile(config.Lock, []byte(process+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ran, file := config.Lock+".ran", config.Lock+".file"
		_, err := h.Run(t.Context(), host.Cmd{Script: "touch " + ran, Exclusive: true})
		var busy *host.BusyError
		if !errors.As(err, &busy) || !strings.HasPrefix(err.Error(), "there: "+want+" holds "+config.Lock) {
			t.Errorf("got %v", err)
		}
		if err := h.Write(t.Context(), []host.File{{Path: file, Mode: 0o600}}); !errors.As(err, &busy) {
			t.Errorf("write: got %v", err)
		}
		for _, path := range []string{ran, file} {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is there", path)
			}
		}
	}
}

func TestAloneCancelled(t *testing.T) {
	l := leave(t, 0)
	h := dial(t, l.config)
	ctx, cancel := context.WithCancel(t.Context())
	said, result := make(hosttest.Lines, 10), make(chan error, 1)
	go func() {
		_, err := h.Run(ctx, host.Cmd{Script: "touch " + l.dir + "/ran", Stderr: said, Exclusive: true})
		result <- err
	}()
	<-said
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	l.finish(t)
	if _, err := h.Run(t.Context(), host.Cmd{Script: "true", Exclusive: true}); err != nil || l.has("ran") || !l.has("ended") {
		t.Errorf("ran: %t, the other ended: %t, %v", l.has("ran"), l.has("ended"), err)
	}
}

func TestWriteAfterALostConnection(t *testing.T) {
	l := leave(t, 0)
	h := dial(t, l.config)
	file := filepath.Join(l.dir, "file")
	result := make(chan error, 1)
	go func() { result <- h.Write(t.Context(), []host.File{{Path: file, Mode: 0o600, Content: []byte("new")}}) }()
	// Once everything has arrived there is nothing left to wait for but the lock.
	for staged := ""; staged != "new"; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-result:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		names, _ := filepath.Glob(filepath.Join(l.dir, ".slipway-new-*", "file"))
		for _, name := range names {
			content, _ := os.ReadFile(name) //nolint:gosec // G304: of the test
			staged = string(content)
		}
	}
	if time.Sleep(200 * time.Millisecond); l.has("file") {
		t.Error("it put files in place beside the other")
	}
	l.finish(t)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "new" { //nolint:gosec // G304: as above
		t.Errorf("%q, %v", content, err)
	}
}
