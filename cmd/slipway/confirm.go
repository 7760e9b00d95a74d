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

// confirm asks on a terminal. Without one nothing is asked: --yes has to say it.
func (a *app) confirm(ctx context.Context, question string) error {
	if a.yes {
		return nil
	}
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("there is no terminal to ask on; give --yes to go on without a question")
	}
	if err := dropTyped(int(file.Fd())); err != nil { // before there was a question nobody can have meant it
		return fmt.Errorf("ask on the terminal: %w", err)
	}
	_, _ = fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	var answer string
	var err error
	answered := make(chan struct{})
	go func() { // which is left behind by an interrupt, with the process
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
