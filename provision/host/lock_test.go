package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
func leave(t *testing.T) *left {
	t.Helper()
	l := &left{config: hosttest.NewOpenSSH(t), dir: t.TempDir()}
	l.config.Name, l.config.Lock = "there", filepath.Join(l.dir, "lock")
	t.Cleanup(func() { l.finish(t) })
	h := dial(t, l.config)
	began := make(hosttest.Lines, 10)
	ended := make(chan error, 1)
	go func() {
		script := fmt.Sprintf("echo began; until [ -e %[1]s/finish ]; do sleep 0.02; done; touch %[1]s/ended", l.dir)
		_, err := h.Run(context.WithoutCancel(t.Context()), host.Cmd{Script: script, Stdout: began, Alone: true})
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

func TestAloneAfterALostConnection(t *testing.T) {
	l := leave(t)
	h := dial(t, l.config)
	if _, err := h.Run(t.Context(), host.Cmd{Script: "true"}); err != nil {
		t.Errorf("what is not alone does not wait: %v", err)
	}
	said, result := make(hosttest.Lines, 10), make(chan error, 1)
	var got host.Result
	go func() {
		var err error
		got, err = h.Run(t.Context(), host.Cmd{Script: "ls " + l.dir, Stderr: said, Alone: true})
		result <- err
	}()
	line := strings.TrimSpace(<-said)
	process, ok := strings.CutPrefix(line, host.Waits)
	if _, err := os.Stat("/proc/" + process); !ok || err != nil {
		t.Errorf("it does not say whom it waits for: %q, %v", line, err)
	}
	l.finish(t)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got.Stdout), "ended\n") {
		t.Errorf("it ran beside the other: %s", got.Stdout)
	}
	if info, err := os.Stat(l.config.Lock); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may open the lock: %v, %v", info, err)
	}
}

func TestAloneGivesUp(t *testing.T) {
	l := leave(t)
	h := dial(t, l.config)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := h.Run(ctx, host.Cmd{Script: "touch " + l.dir + "/ran", Alone: true})
	var busy *host.BusyError
	if !errors.As(err, &busy) || busy.Process == "" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(l.dir, "file")
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.Write(ctx, []host.File{{Path: file, Mode: 0o600}}); !errors.As(err, &busy) {
		t.Errorf("write: got %v", err)
	}
	l.finish(t)
	if _, err := h.Run(t.Context(), host.Cmd{Script: "true", Alone: true}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ran", "file"} {
		if _, err := os.Stat(filepath.Join(l.dir, name)); err == nil {
			t.Errorf("%s: it went on after it was given up", name)
		}
	}
}

func TestWriteAfterALostConnection(t *testing.T) {
	l := leave(t)
	h := dial(t, l.config)
	file := filepath.Join(l.dir, "file")
	result := make(chan error, 1)
	go func() { result <- h.Write(t.Context(), []host.File{{Path: file, Mode: 0o600, Content: []byte("new")}}) }()
	// Everything has arrived once it waits for the lock, which a second process has then opened.
	for staged := ""; staged != "new"; {
		names, _ := filepath.Glob(filepath.Join(l.dir, ".slipway-new-*", "file"))
		for _, name := range names {
			content, _ := os.ReadFile(name) //nolint:gosec // G304: of the test
			staged = string(content)
		}
	}
	select {
	case err := <-result:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := os.Stat(file); err == nil {
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
