package local

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

const (
	// bootTimeout is the default time from a machine's start to an answer of sshd; it usually takes
	// about a second.
	bootTimeout = time.Minute
	// bootPoll is the interval of connection attempts to sshd.
	bootPoll = 25 * time.Millisecond
	// statePolls is the number of failed attempts before Docker is queried.
	statePolls = 20
)

// waitSSH waits until sshd of the machine answers. On timeout, or if the machine stops, the error
// says what was last seen.
func (p *Local) waitSSH(ctx context.Context, id string, m machine) error {
	timeout := cmp.Or(p.o.ConnectTimeout, bootTimeout)
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(bootPoll)
	defer tick.Stop()
	for n := 1; ; n++ {
		last := greeting(tctx, m.sshAddress())
		if last == nil {
			return nil
		}
		if n%statePolls == 0 {
			if res, err := p.docker.ContainerInspect(tctx, id, client.ContainerInspectOptions{}); err == nil && res.Container.State != nil {
				if s := res.Container.State; s.Status == container.StateExited || s.Status == container.StateDead {
					return fmt.Errorf("machine %s stopped with exit code %d before sshd answered; its console says:\n%s",
						m.node.Name, s.ExitCode, p.console(ctx, id))
				}
			}
		}
		select {
		case <-tick.C:
		case <-tctx.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("machine %s: sshd did not answer SSH at %s within %s, last: %w; its console says:\n%s",
				m.node.Name, m.sshAddress(), timeout, last, p.console(ctx, id))
		}
	}
}

// greeting reads the first bytes that sshd sends. A connection alone proves nothing: Docker accepts
// it by itself.
func greeting(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(d)
	}
	b := make([]byte, len("SSH-"))
	if _, err := io.ReadFull(c, b); err != nil {
		return fmt.Errorf("read sshd's greeting: %w", err)
	}
	if string(b) != "SSH-" {
		return fmt.Errorf("sshd greets with %q", b)
	}
	return nil
}

// console is the end of what a container has printed, or why that cannot be had.
func (p *Local) console(ctx context.Context, id string) string {
	logs, err := p.docker.ContainerLogs(ctx, id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "20"})
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer func() { _ = logs.Close() }()
	var b bytes.Buffer
	_, _ = stdcopy.StdCopy(&b, &b, io.LimitReader(logs, 64<<10))
	if s := strings.TrimSpace(b.String()); s != "" {
		return s
	}
	return "(nothing)"
}
