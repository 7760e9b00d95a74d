package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// confirm asks on a terminal. Without a terminal it requires --yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if a.yes {
		return nil
	}
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("there is no terminal to ask on; give --yes to continue without confirmation")
	}
	if err := dropTyped(int(file.Fd())); err != nil { // typed before the question, so not an answer to it
		return fmt.Errorf("ask on the terminal: %w", err)
	}
	_, _ = fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	var answer string
	var err error
	answered := make(chan struct{})
	go func() { // an interrupt leaves it behind, with the process
		defer close(answered)
		answer, err = bufio.NewReader(a.stdin).ReadString('\n')
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-answered:
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}
