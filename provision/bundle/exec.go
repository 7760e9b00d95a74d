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
}

// run returns standard output; the error carries all that was said on the other.
func (c command) run(ctx context.Context) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // arguments come from the recipe table
	cmd.Dir = c.dir
	cmd.Env = append(neutral(os.Environ()), c.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // compilers and linkers keep nothing that could be spoilt
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
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
