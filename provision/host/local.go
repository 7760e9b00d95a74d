package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// grace is the time between SIGTERM and SIGKILL.
const grace = 2 * time.Second

// LocalHost is the machine this process runs on, as the user it runs as: owners of files can only
// be set by root.
type LocalHost struct{ name string }

// Local returns this machine under a name of the caller's choice.
func Local(name string) *LocalHost { return &LocalHost{name} }

var (
	_ Host   = (*LocalHost)(nil)
	_ Dialer = (*LocalHost)(nil)
)

// Name implements Host.
func (l *LocalHost) Name() string { return l.name }

// Run implements Host.
func (l *LocalHost) Run(ctx context.Context, cmd Cmd) (Result, error) { return run(ctx, l, cmd) }

// Write implements Host.
func (l *LocalHost) Write(ctx context.Context, files []File) error { return write(ctx, l, files) }

// Read implements Host.
func (l *LocalHost) Read(ctx context.Context, path string) ([]byte, error) { return read(ctx, l, path) }

// Close implements Host. There is nothing to end: a script in flight is ended by its context.
func (l *LocalHost) Close() error { return nil }

// DialContext implements Dialer.
func (l *LocalHost) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return conn, nil
}

func (l *LocalHost) elevation(context.Context) (elevation, error) { return elevation{}, nil }

func (l *LocalHost) refusal(said string, _ elevation) error { return errors.New(said) }

func (l *LocalHost) lock() lock { return lock{} }

func (l *LocalHost) do(ctx context.Context, j job) (exit, error) {
	if ctx.Err() != nil {
		return exit{}, context.Cause(ctx)
	}
	//nolint:gosec // running scripts is what this is for; and ctx ends the whole group, not only the child
	cmd := exec.Command("sh", "-c", j.line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = j.stdout, j.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return exit{}, err
	}
	if err := cmd.Start(); err != nil {
		return exit{}, err
	}
	go j.stdin.feed(in)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return localExit(err)
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = syscall.Kill(-cmd.Process.Pid, sig)
		select {
		case <-ended: //nolint:errcheck // it was ended by us: how says nothing
			// The group outlives its leader if a child ignores SIGTERM.
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			return exit{}, context.Cause(ctx)
		case <-time.After(grace):
		}
	}
	return exit{}, fmt.Errorf("%w, and it did not end", context.Cause(ctx))
}

// localExit reads os/exec's account; signals are named as SSH does.
func localExit(err error) (exit, error) {
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		return exit{}, err
	}
	status, ok := failed.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return exit{code: failed.ExitCode()}, nil
	}
	number := status.Signal()
	return exit{code: 128 + int(number), signal: signalName(number)}, nil
}

func signalName(number syscall.Signal) string {
	for _, s := range []struct {
		number syscall.Signal
		name   ssh.Signal
	}{
		{syscall.SIGABRT, ssh.SIGABRT},
		{syscall.SIGALRM, ssh.SIGALRM},
		{syscall.SIGFPE, ssh.SIGFPE},
		{syscall.SIGHUP, ssh.SIGHUP},
		{syscall.SIGILL, ssh.SIGILL},
		{syscall.SIGINT, ssh.SIGINT},
		{syscall.SIGKILL, ssh.SIGKILL},
		{syscall.SIGPIPE, ssh.SIGPIPE},
		{syscall.SIGQUIT, ssh.SIGQUIT},
		{syscall.SIGSEGV, ssh.SIGSEGV},
		{syscall.SIGTERM, ssh.SIGTERM},
		{syscall.SIGUSR1, ssh.SIGUSR1},
		{syscall.SIGUSR2, ssh.SIGUSR2},
	} {
		if s.number == number {
			return string(s.name)
		}
	}
	return fmt.Sprint(int(number))
}
