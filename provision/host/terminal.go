package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Terminal describes the one that a shell is shown on.
type Terminal struct {
	// Type is the value of TERM.
	Type          string
	Width, Height int
	// Resized, if set, receives the new size at each change.
	Resized <-chan [2]int
}

// Shell runs root's login shell on a pseudo-terminal until it ends; its exit code is an *ExitError.
// sudo asks on that terminal for the password of a user other than root, if it wants one. The caller
// puts its own terminal into raw mode. in may be read from once more after the shell has ended.
func (s *SSH) Shell(ctx context.Context, t Terminal, in io.Reader, out io.Writer) error {
	c, err := s.live(ctx)
	if err != nil {
		return err
	}
	session, release, err := c.open(ctx, c.slots)
	if err != nil {
		return err
	}
	defer release()
	defer func() { _ = session.Close() }()
	session.Stdin, session.Stdout, session.Stderr = in, out, out
	if err := session.RequestPty(t.Type, t.Height, t.Width, ssh.TerminalModes{}); err != nil {
		return fmt.Errorf("%s: ask for a terminal: %w", s.Name(), err)
	}
	start := session.Shell
	if s.config.User != "root" {
		start = func() error { return session.Start("exec sudo -i") }
	}
	if err := start(); err != nil {
		return fmt.Errorf("%s: start a shell: %w", s.Name(), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	for {
		select {
		case size := <-t.Resized:
			if err := session.WindowChange(size[1], size[0]); err != nil {
				return fmt.Errorf("%s: resize the terminal: %w", s.Name(), err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			var exit *ssh.ExitError
			if errors.As(err, &exit) {
				return &ExitError{Host: s.Name(), Script: "shell", Code: exit.ExitStatus(), Signal: exit.Signal()}
			}
			return err
		}
	}
}
