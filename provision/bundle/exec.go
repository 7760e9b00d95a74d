package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command is a child process in its own process group, so that everything it starts ends with it.
type command struct {
	dir  string
	env  []string // in addition to this process's, without what would change the result
	args []string
	// line is told each line of standard error as it comes, and returns true to leave it out of the
	// error. May be nil.
	line func(string) bool
}

// run returns standard output; the error carries all that was said on the other.
func (c command) run(ctx context.Context) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // arguments come from the recipe table
	cmd.Dir = c.dir
	cmd.Env = append(neutral(os.Environ()), c.env...)
	lines := &lineWriter{out: &stderr, line: c.line}
	cmd.Stdout, cmd.Stderr = &stdout, lines
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // compilers and linkers keep nothing that could be spoilt
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	lines.end()
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// lineWriter passes on the lines that line does not take.
type lineWriter struct {
	out  *bytes.Buffer
	line func(string) bool
	part []byte // of a line that is not complete
}

func (w *lineWriter) Write(p []byte) (int, error) {
	if w.line == nil {
		return w.out.Write(p)
	}
	w.part = append(w.part, p...)
	for {
		line, rest, found := bytes.Cut(w.part, []byte("\n"))
		if !found {
			return len(p), nil
		}
		if !w.line(string(line)) {
			w.out.Write(line)
			w.out.WriteByte('\n')
		}
		w.part = rest
	}
}

// end passes on a last line that has no end.
func (w *lineWriter) end() {
	w.out.Write(w.part)
	w.part = nil
}

// neutral removes variables that would make builds differ between computers. The user's settings
// for modules (GOPROXY, GOSUMDB, GOPRIVATE, ...) and caches are kept.
func neutral(environ []string) []string {
	changes := map[string]bool{
		"GOFLAGS": true, "GOOS": true, "GOARCH": true, "GOAMD64": true, "GOARM64": true, "GOEXPERIMENT": true,
		"GOFIPS140": true, "GO111MODULE": true, "GOWORK": true, "GODEBUG": true, "CC": true, "CXX": true,
		"AR": true, "CFLAGS": true, "LDFLAGS": true, "SOURCE_DATE_EPOCH": true,
	}
	var kept []string
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !changes[name] && !strings.HasPrefix(name, "CGO_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
