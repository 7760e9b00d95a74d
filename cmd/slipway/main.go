// Command slipway turns one YAML file into a running, highly available Kubernetes cluster and keeps
// it equal to that file.
//
// This package parses flags, wires the others, shows plan and progress and chooses the exit code.
// It makes no decisions about clusters: provision computes the desired state, and providers creates
// machines.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"slipway.dev/slipway/provision/spec"
)

// Exit codes, as documented in docs/cli.md.
const (
	exitOK          = 0
	exitFailed      = 1
	exitChanges     = 2 // plan --detailed-exitcode
	exitInvalidSpec = 3
	exitInterrupted = 130
)

// exitError carries an exit code other than 1 to main; a nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// interrupts are signals after which no new step begins: Ctrl-C, SIGTERM, and closing the terminal,
// for example because the operator's own connection is lost.
var interrupts = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// run executes one command line and returns the exit code. The first interrupt cancels the context,
// the second kills. When a terminal closes, shell and kernel both send a signal, so that SIGHUP
// never counts as the second.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, heeded()...)
	defer stop()
	if signals := heeded(); slices.Contains(signals, os.Signal(syscall.SIGHUP)) {
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	context.AfterFunc(ctx, stop) // after the first signal the default handler is restored

	a := &app{stdin: stdin, stdout: newEscapingWriter(stdout), stderr: newEscapingWriter(stderr)}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return exitCode(ctx, err, resumeOf(cmd), a.stderr)
}

// heeded are the interrupts, without SIGHUP if it is ignored: nohup lets a program outlive its
// terminal.
func heeded() []os.Signal {
	return slices.DeleteFunc(slices.Clone(interrupts), func(s os.Signal) bool { return s == syscall.SIGHUP && signal.Ignored(s) })
}

// exitCode prints an error and its remedy; command is the one that continues.
func exitCode(ctx context.Context, err error, command string, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			_, _ = fmt.Fprintf(stderr, "Error: %v\n", exit.err)
		}
		return exit.code
	}
	_, _ = fmt.Fprintf(stderr, "Error: %v\n", err)
	for _, hint := range hints(err, command) {
		_, _ = fmt.Fprintf(stderr, "Hint: %s\n", hint)
	}
	var invalid spec.Errors
	switch {
	case errors.As(err, &invalid):
		return exitInvalidSpec
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}
