package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"slipway.dev/slipway/provision/host"
	"slipway.dev/slipway/provision/live"
	"slipway.dev/slipway/provision/secret"
)

// sudoPasswordFileVar names a file with the password for sudo, where there is no terminal.
const sudoPasswordFileVar = "SLIPWAY_SUDO_PASSWORD_FILE" //nolint:gosec // the name of a file, no password

// wayIn is access to machines, besides what the spec says of each: the keys of the agent, the
// known_hosts files that ssh(1) reads too, and whoever is asked for passphrases and passwords.
func (a *app) wayIn(timeout time.Duration) *live.SSH {
	files := []string{"/etc/ssh/ssh_known_hosts"}
	if home, err := os.UserHomeDir(); err == nil {
		files = append([]string{filepath.Join(home, ".ssh", "known_hosts")}, files...)
	}
	in := &live.SSH{Agent: os.Getenv("SSH_AUTH_SOCK"), KnownHosts: files, Timeout: timeout, Shared: &a.entry, Secret: a.answer, Trust: &a.trust}
	in.Report = func(machine, what string) {
		if a.shown != nil {
			a.shown.Host(machine, what)
		}
	}
	return in
}

// answer is the passphrase of an SSH key or a password for sudo: from the file that the user names,
// otherwise from the terminal, where the progress is not drawn meanwhile.
func (a *app) answer(ctx context.Context, question string) (answer secret.Bytes, err error) {
	remedy := "add the key to your SSH agent (`ssh-add FILE`)"
	if strings.HasPrefix(question, host.SudoQuestion) {
		if file := os.Getenv(sudoPasswordFileVar); file != "" {
			text, err := os.ReadFile(file) //nolint:gosec // G703: the user names it
			if err != nil {
				return nil, fmt.Errorf("read the password for sudo (%s): %w", sudoPasswordFileVar, err)
			}
			return bytes.TrimRight(text, "\r\n"), nil
		}
		remedy = "name a file that holds it in " + sudoPasswordFileVar
	}
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, errors.New("there is no terminal to ask on; " + remedy)
	}
	ask := func() error {
		switch answer, err = a.typed(ctx, file, question); {
		case err != nil:
			err = fmt.Errorf("read the answer from the terminal: %w", err)
		case len(answer) == 0:
			err = errors.New("nothing was typed")
		}
		return err
	}
	if a.shown != nil {
		return answer, a.shown.Suspend(ask)
	}
	return answer, ask()
}

// typed asks on a terminal, and reads a line without showing it, until ctx ends.
func (a *app) typed(ctx context.Context, terminal *os.File, question string) (secret.Bytes, error) {
	show, err := hideTyped(int(terminal.Fd())) // before the question, which may be answered at once
	if err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(a.stderr, "%s: ", question)
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() { // an interrupt leaves it behind, with the process
		text, err := bufio.NewReader(terminal).ReadBytes('\n')
		typed <- line{bytes.TrimRight(text, "\r\n"), err}
	}()
	var l line
	select {
	case l = <-typed:
	case <-ctx.Done():
		l.err = context.Cause(ctx)
	}
	show()
	_, _ = fmt.Fprintln(a.stderr)
	return l.text, l.err
}
